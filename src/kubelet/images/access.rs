//! Who may use which image: one that was pulled with a secret is for pods that have that secret.
//! Others have it pulled for them, by which the registry decides. Images that nobody pulled were put
//! there by the administrator for everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use runtime::Credential;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

#[derive(Default, Serialize, Deserialize)]
struct Entry {
    everybody: bool,
    /// Hashes of the credentials that it was pulled with.
    credentials: BTreeSet<String>,
}

/// The record, kept beside the images.
pub(super) struct Access {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

fn hash(credential: &Credential) -> String {
    let mut hasher = Sha256::new();
    for part in [
        &credential.username,
        &credential.password,
        &credential.identity_token,
        &credential.registry_token,
    ] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Access {
    pub(super) fn open(path: PathBuf) -> Self {
        let entries = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(path = %path.display(), %error, "record of image access cannot be read");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        Self { path, entries: Mutex::new(entries) }
    }

    /// Whether a pod with these credentials may use an image without asking its registry.
    pub(super) fn allowed(&self, image: &str, credentials: &[Credential]) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(image).is_none_or(|entry| {
            entry.everybody || credentials.iter().any(|c| entry.credentials.contains(&hash(c)))
        })
    }

    /// Records that an image was pulled with these credentials, or without any.
    pub(super) fn pulled(&self, image: &str, credentials: &[Credential]) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(image.to_owned()).or_default();
        let before = (entry.everybody, entry.credentials.len());
        if credentials.is_empty() {
            entry.everybody = true;
        }
        entry.credentials.extend(credentials.iter().map(hash));
        if (entry.everybody, entry.credentials.len()) != before {
            self.save(&entries);
        }
    }

    /// Forgets the images that are not among `present`.
    pub(super) fn retain(&self, present: &BTreeSet<String>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.len();
        entries.retain(|image, _| present.contains(image));
        if entries.len() != before {
            self.save(&entries);
        }
    }

    fn save(&self, entries: &BTreeMap<String, Entry>) {
        let written =
            serde_json::to_vec(entries).map_err(std::io::Error::other).and_then(|bytes| {
                let new = self.path.with_extension("new");
                std::fs::write(&new, bytes)?;
                std::fs::rename(new, &self.path)
            });
        if let Err(error) = written {
            warn!(path = %self.path.display(), %error, "record of image access cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_secret_pulled_is_for_those_who_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        let mine = Credential { username: "a".to_owned(), ..Credential::default() };
        let other = Credential { username: "b".to_owned(), ..Credential::default() };
        let access = Access::open(path.clone());
        assert!(access.allowed("preloaded", &[]));
        access.pulled("x", std::slice::from_ref(&mine));
        let access = Access::open(path);
        assert!(access.allowed("x", &[other.clone(), mine]));
        assert!(!access.allowed("x", &[other]));
        assert!(!access.allowed("x", &[]));
        access.pulled("x", &[]);
        assert!(access.allowed("x", &[]));
    }
}
