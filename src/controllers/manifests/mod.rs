//! Manifests: what lies in the server's manifest folder is in the cluster.
//!
//! Each file is applied when it comes or changes, and what it no longer names is deleted. The
//! folder is looked at when the kernel says that something in it changed; files that failed (a
//! definition may not be there yet) are tried again with backoff.

mod documents;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use client::{Api, Client, DeleteParams, Error, Patch, PatchParams, is_not_found};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube_core::{ApiResource, DynamicObject};
use linux::inotify::Folder;
use tokio::time::Instant;
use tracing::{info, warn};

use self::{
    documents::{Document, Identity},
    record::Record,
};
use crate::Context;

const MANAGER: &str = "knarr-manifests";
/// How often the folder is looked at anyway: nobody tells when a file changes that a link leads to.
const INTERVAL: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// By what a changed file is told.
type Stamp = (Option<SystemTime>, u64);

/// A file that was tried: as it was then and, if it failed, when it is tried again.
struct Tried {
    stamp: Option<Stamp>,
    retry: Option<(Instant, Duration)>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let Some(path) = context.config.manifests.clone() else { return };
    let work = async {
        let mut manifests =
            Manifests { client: context.client.clone(), recalled: false, tried: BTreeMap::new() };
        // Watched before it is looked at: what comes in between is seen by the next look.
        let mut folder = Folder::new(path);
        loop {
            let next = manifests.pass(folder.path()).await;
            folder.changed(next).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = context.stop.cancelled() => {}
    }
}

struct Manifests {
    client: Client,
    /// Whether the record of earlier runs was read.
    recalled: bool,
    tried: BTreeMap<String, Tried>,
}

impl Manifests {
    /// Looks at the folder once. Returns when to look again.
    async fn pass(&mut self, folder: &Path) -> Duration {
        let path = folder.to_owned();
        let listed = tokio::task::spawn_blocking(move || list(&path)).await;
        let files = match listed {
            Ok(Ok(files)) => files,
            Ok(Err(error)) => {
                warn!(folder = %folder.display(), %error, "manifests cannot be listed");
                return INTERVAL;
            }
            Err(_) => return INTERVAL,
        };
        let mut record = None;
        // Files gone before this run started are known by the record alone.
        if !self.recalled {
            match record::load(&self.client).await {
                Ok(known) => {
                    for file in known.keys().filter(|file| !files.contains_key(*file)) {
                        self.tried
                            .insert(file.clone(), Tried { stamp: Some((None, 0)), retry: None });
                    }
                    record = Some(known);
                    self.recalled = true;
                }
                Err(error) => {
                    warn!(%error, "record of manifests cannot be read");
                    return FIRST_RETRY;
                }
            }
        }
        let names: BTreeSet<String> = files.keys().chain(self.tried.keys()).cloned().collect();
        for name in names {
            let stamp = files.get(&name).copied();
            let now = Instant::now();
            let (due, wait) = match self.tried.get(&name) {
                None => (true, FIRST_RETRY),
                Some(tried) if tried.stamp != stamp => (true, FIRST_RETRY),
                Some(Tried { retry: Some((at, wait)), .. }) => (*at <= now, *wait),
                Some(_) => (false, FIRST_RETRY),
            };
            if !due {
                continue;
            }
            let record = match &mut record {
                Some(record) => record,
                none => match record::load(&self.client).await {
                    Ok(known) => none.insert(known),
                    Err(error) => {
                        warn!(%error, "record of manifests cannot be read");
                        return FIRST_RETRY;
                    }
                },
            };
            let done = match stamp {
                Some(_) => self.apply_file(folder, &name, record).await,
                None => Some(self.prune(&name, None, record).await),
            };
            // One that is being written counts as changed when it is looked at again.
            let (done, stamp) = done.map_or((false, None), |done| (done, stamp));
            if done && stamp.is_none() {
                self.tried.remove(&name);
            } else {
                let retry = (!done).then(|| (Instant::now() + wait, (wait * 2).min(LAST_RETRY)));
                self.tried.insert(name, Tried { stamp, retry });
            }
        }
        let retries = self.tried.values().filter_map(|tried| tried.retry);
        let now = Instant::now();
        retries
            .map(|(at, _)| at.saturating_duration_since(now))
            .min()
            .unwrap_or(INTERVAL)
            .min(INTERVAL)
    }

    /// Applies what a file names, and deletes what it no longer does. Returns whether all went
    /// well; `None` if the file is being written.
    async fn apply_file(&self, folder: &Path, file: &str, record: &mut Record) -> Option<bool> {
        let path: PathBuf = folder.join(file);
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let text = match read {
            Ok(Ok(Some(text))) => text,
            Ok(Ok(None)) => return None,
            Ok(Err(error)) => {
                warn!(file, %error, "manifest cannot be read");
                return Some(false);
            }
            Err(_) => return Some(false),
        };
        let (mut whole, mut named) = (true, BTreeSet::new());
        for document in documents::read(&text, file.ends_with(".json")) {
            let (number, outcome) = match document {
                Err((number, error)) => (number, Err(error)),
                Ok(document) => {
                    let applied = self.apply(file, &document, record).await;
                    let number = document.number;
                    (number, applied.map(|identity| named.extend([identity])))
                }
            };
            if let Err(error) = outcome {
                warn!(file, document = number, error, "manifest not applied");
                whole = false;
            }
        }
        if !whole {
            // What does not parse may name what is there: nothing is deleted on a guess.
            return Some(false);
        }
        info!(file, objects = named.len(), "manifest applied");
        Some(self.prune(file, Some(&named), record).await)
    }

    async fn apply(
        &self,
        file: &str,
        document: &Document,
        record: &mut Record,
    ) -> Result<Identity, String> {
        let mut identity = document.identity()?;
        let (resource, namespaced) = self.resource(&identity).await?;
        match (namespaced, identity.namespace.is_empty()) {
            (true, true) => "default".clone_into(&mut identity.namespace),
            (false, false) => identity.namespace.clear(),
            _ => {}
        }
        // Recorded first: what is there must be known even if nothing comes after this.
        let objects = record.entry(file.to_owned()).or_default();
        if objects.insert(identity.clone()) {
            let stored = record::store(&self.client, file, Some(objects)).await;
            if let Err(error) = stored {
                objects.remove(&identity);
                return Err(crate::pod_control::text_of(&error));
            }
        }
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&document.object);
        let applied = self.api(&resource, &identity).patch(&identity.name, &params, &patch).await;
        applied.map(|_| identity).map_err(|error| crate::pod_control::text_of(&error))
    }

    /// Deletes what came from `file` but is not `named` by it (or by another) any more.
    async fn prune(
        &self,
        file: &str,
        named: Option<&BTreeSet<Identity>>,
        record: &mut Record,
    ) -> bool {
        let nothing = BTreeSet::new();
        let named_here = named.unwrap_or(&nothing);
        let Some(known) = record.get(file).cloned() else { return true };
        let mut whole = true;
        let mut left = named_here.clone();
        for identity in known.difference(named_here) {
            let mut others = record.iter().filter(|(other, _)| *other != file);
            if others.any(|(_, objects)| objects.contains(identity)) {
                continue;
            }
            if let Err(error) = self.delete(identity).await {
                let Identity { kind, namespace, name, .. } = identity;
                warn!(file, kind, namespace, name, error, "object of a manifest not deleted");
                left.insert(identity.clone());
                whole = false;
            }
        }
        let gone = named.is_none() && left.is_empty();
        if gone || left != known {
            let objects = Some(&left).filter(|_| !gone);
            if let Err(error) = record::store(&self.client, file, objects).await {
                warn!(file, %error, "record of a manifest not written");
                return false;
            }
        }
        match gone {
            true => drop(record.remove(file)),
            false => drop(record.insert(file.to_owned(), left)),
        }
        whole
    }

    async fn delete(&self, identity: &Identity) -> Result<(), String> {
        let resource = match self.resource(identity).await {
            Ok((resource, _)) => resource,
            // Its kind is gone, and the object with it.
            Err(error) if error.starts_with(UNKNOWN) => return Ok(()),
            Err(error) => return Err(error),
        };
        let api = self.api(&resource, identity);
        match api.delete(&identity.name, &DeleteParams::background()).await {
            Err(error) if !is_not_found(&error) => Err(crate::pod_control::text_of(&error)),
            _ => Ok(()),
        }
    }

    fn api(&self, resource: &ApiResource, identity: &Identity) -> Api<DynamicObject> {
        let client = self.client.kube().clone();
        match identity.namespace.as_str() {
            "" => Api::all_with(client, resource),
            namespace => Api::namespaced_with(client, namespace, resource),
        }
    }

    /// The resource of an object's kind, and whether it is namespaced, as the server says now.
    async fn resource(&self, identity: &Identity) -> Result<(ApiResource, bool), String> {
        let Identity { api_version, kind, .. } = identity;
        let root = if api_version.contains('/') { "/apis" } else { "/api" };
        let request = http::Request::get(format!("{root}/{api_version}")).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let list: Result<APIResourceList, Error> = self.client.kube().request(request).await;
        let unknown = || format!("{UNKNOWN} {kind} in version {api_version}");
        let list = list.map_err(|error| match is_not_found(&error) {
            true => unknown(),
            false => crate::pod_control::text_of(&error),
        })?;
        let mut resources = list.resources.into_iter();
        let found = resources.find(|one| one.kind == *kind && !one.name.contains('/'));
        let found = found.ok_or_else(unknown)?;
        let (group, version) = apimachinery::resource::split_api_version(api_version);
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.clone(),
            kind: kind.clone(),
            plural: found.name,
        };
        Ok((resource, found.namespaced))
    }
}

/// How the message on a kind that is not served begins.
const UNKNOWN: &str = "the server has no";

/// The manifest files of `folder`.
fn list(folder: &Path) -> std::io::Result<BTreeMap<String, Stamp>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_manifest(&name) {
            continue;
        }
        // A link counts as what it leads to; one that leads nowhere as no file.
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            files.insert(name, (metadata.modified().ok(), metadata.len()));
        }
    }
    Ok(files)
}

/// A manifest's text; `None` of one that is being written. Half of one would delete what the other
/// half names.
fn read(path: &Path) -> std::io::Result<Option<String>> {
    let file = std::fs::File::open(path)?;
    match linux::fs::is_being_written(&file) {
        true => Ok(None),
        false => std::io::read_to_string(file).map(Some),
    }
}

/// Whether a file is one: hidden ones are what editors are about to put in place. The name is a key
/// of the record, so it may have no letters that a ConfigMap's keys cannot have.
fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_told_by_their_names() {
        assert!(is_manifest("a.yaml") && is_manifest("b-c_1.yml") && is_manifest("d.json"));
        assert!(!is_manifest(".a.yaml.swp") && !is_manifest(".a.yaml") && !is_manifest("a.txt"));
        assert!(!is_manifest("a b.yaml"));
    }
}
