//! The certificate of hosts that have none: self-made, for clients that do not look at it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ingress::Certificate;
use pki::{AltNames, Authority, PrivateKey, Profile, files, pem};

const CHAIN: &str = "edge.crt";
const KEY: &str = "edge.key";
const NAME: &str = "Knarr default certificate";
const DAY: i64 = 24 * 60 * 60;
const LIFETIME: i64 = 365 * DAY;
/// A certificate that ends earlier is replaced when an edge is found or started.
const LEFT: i64 = 30 * DAY;

/// The certificate of a folder, made if there is none or it is about to end.
pub(crate) fn of(folder: &Path) -> pki::Result<Certificate> {
    let (chain, key) = (folder.join(CHAIN), folder.join(KEY));
    if let (Some(chain), Some(key)) = (files::read(&chain)?, files::read(&key)?)
        && is_usable(&chain, &key)
    {
        return Ok(named(chain, key));
    }
    let private = PrivateKey::generate()?;
    let profile = Profile::server(NAME, AltNames::new(["ingress.invalid"]), LIFETIME);
    // Nobody keeps the authority: nothing else can ever be signed with it.
    let der = Authority::generate(NAME)?.issue(&profile, &private)?;
    let made = named(pem::encode("CERTIFICATE", &der), private.to_pem());
    files::write(&key, made.key.as_bytes(), 0o600)?;
    files::write(&chain, made.chain.as_bytes(), 0o600)?;
    Ok(made)
}

fn named(chain: String, key: String) -> Certificate {
    Certificate { namespace: String::new(), name: String::new(), chain, key }
}

fn is_usable(chain: &str, key: &str) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (Ok(certificate), Ok(key)) = (pki::Certificate::from_pem(chain), PrivateKey::from_pem(key))
    else {
        return false;
    };
    certificate.public_key == key.public_der()
        && certificate.not_after > i64::try_from(now).unwrap_or(i64::MAX).saturating_add(LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = of(folder.path()).unwrap();
        assert_eq!(of(folder.path()).unwrap(), first);
        // A crash between the two files leaves what does not belong together.
        let other = PrivateKey::generate().unwrap();
        files::write(&folder.path().join(KEY), other.to_pem().as_bytes(), 0o600).unwrap();
        let second = of(folder.path()).unwrap();
        assert_ne!(second, first);
        assert!(is_usable(&second.chain, &second.key));
    }
}
