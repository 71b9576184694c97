//! The keys and certificates of one cluster: made once, kept under `<data>/server/tls` under
//! kubeadm's names, renewed at start when they are about to expire or name too little.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    AltNames, Authority, Certificate, PrivateKey, Profile, Result, certificate::Subject, clock,
    files, jwt::TokenKeys, pem,
};

/// Seconds that what the authorities sign is valid.
pub const YEAR: i64 = 365 * 86_400;
/// Renewed at start when fewer seconds are left: a third of their life.
const RENEW_BEFORE: i64 = YEAR / 3;

/// A certificate with its key, both PEM; the certificate's own chain only.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Certificate in PEM.
    pub certificate: String,
    /// Private key in PEM.
    pub key: String,
}

impl Identity {
    /// A new key and a certificate for it.
    ///
    /// # Errors
    /// When the random source or signing fails.
    pub fn issue(authority: &Authority, profile: &Profile) -> Result<Self> {
        let key = PrivateKey::generate()?;
        let certificate = pem::encode("CERTIFICATE", &authority.issue(profile, &key)?);
        Ok(Self { certificate, key: key.to_pem() })
    }
}

/// Everything that a server needs to prove who it is and to know who others are.
pub struct ClusterPki {
    dir: PathBuf,
    /// Signs servers, clients and kubelets.
    pub authority: Arc<Authority>,
    /// Signs the API server's certificate towards aggregated API servers, and nothing else: who
    /// shows such a certificate may name any user.
    pub front_proxy: Authority,
    /// Signs and verifies service account tokens.
    pub tokens: Arc<TokenKeys>,
}

impl ClusterPki {
    /// Reads the authorities and keys in `dir`, making what is not there.
    ///
    /// # Errors
    /// When files cannot be read or written, or hold something else.
    pub fn load_or_create(dir: &Path) -> Result<Self> {
        files::create_dir(dir)?;
        let authority = Arc::new(load_authority(dir, "ca", "kubernetes")?);
        let front_proxy = load_authority(dir, "front-proxy-ca", "front-proxy-ca")?;
        let signing = load_key(&dir.join("sa.key"))?;
        let mut tokens = TokenKeys::new(&signing)?;
        let public = dir.join("sa.pub");
        match files::read(&public)? {
            // Keys of before a rotation may be added to this file.
            Some(text) => tokens.also_accept(&strip(&text, &signing))?,
            None => {
                let text = pem::encode("PUBLIC KEY", &signing.public_der());
                files::write(&public, text.as_bytes(), 0o644)?;
            }
        }
        Ok(Self { dir: dir.to_owned(), authority, front_proxy, tokens: Arc::new(tokens) })
    }

    /// The API server's serving certificate for these names and addresses.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn serving(&self, names: AltNames) -> Result<Identity> {
        let profile = Profile::server("kube-apiserver", names, YEAR);
        self.keep("apiserver", &self.authority, &profile)
    }

    /// The API server's client certificate towards kubelets.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn kubelet_client(&self) -> Result<Identity> {
        let name = "kube-apiserver-kubelet-client";
        let profile = Profile::client(name, &["kubeadm:cluster-admins"], YEAR);
        self.keep("apiserver-kubelet-client", &self.authority, &profile)
    }

    /// The API server's client certificate towards aggregated API servers.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn front_proxy_client(&self) -> Result<Identity> {
        let profile = Profile::client("front-proxy-client", &[], YEAR);
        self.keep("front-proxy-client", &self.front_proxy, &profile)
    }

    /// The administrator's client certificate: in `system:masters`, whom nothing is denied.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn admin(&self) -> Result<Identity> {
        let profile = Profile::client("kubernetes-admin", &["system:masters"], YEAR);
        self.keep("admin", &self.authority, &profile)
    }

    /// A component's client certificate, such as `system:kube-scheduler`, kept under that name.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn component(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        let file = user.replace([':', '/'], "-");
        self.keep(&file, &self.authority, &Profile::client(user, groups, YEAR))
    }

    /// A kubelet's client certificate (`system:node:NAME` in `system:nodes`), not kept.
    ///
    /// # Errors
    /// When signing fails.
    pub fn node_client(&self, node: &str) -> Result<Identity> {
        Identity::issue(&self.authority, &node_client_profile(node))
    }

    /// A kubelet's serving certificate, not kept.
    ///
    /// # Errors
    /// When signing fails.
    pub fn node_serving(&self, node: &str, names: AltNames) -> Result<Identity> {
        Identity::issue(&self.authority, &node_serving_profile(node, names))
    }

    /// The identity kept under `name`, or a new one when it is missing, near its end, or not as
    /// the profile wants it.
    fn keep(&self, name: &str, authority: &Authority, profile: &Profile) -> Result<Identity> {
        let certificate = self.dir.join(format!("{name}.crt"));
        let key = self.dir.join(format!("{name}.key"));
        if let (Some(certificate), Some(key)) = (files::read(&certificate)?, files::read(&key)?)
            && still_good(&certificate, &key, authority, profile)
        {
            return Ok(Identity { certificate, key });
        }
        let identity = Identity::issue(authority, profile)?;
        // The key first: a crash in between leaves a pair that does not match and is made anew.
        files::write(&key, identity.key.as_bytes(), 0o600)?;
        files::write(&certificate, identity.certificate.as_bytes(), 0o644)?;
        Ok(identity)
    }
}

/// What a kubelet's client certificate says.
pub fn node_client_profile(node: &str) -> Profile {
    Profile::client(&format!("system:node:{node}"), &["system:nodes"], YEAR)
}

/// What a kubelet's serving certificate says.
pub fn node_serving_profile(node: &str, names: AltNames) -> Profile {
    let mut profile = Profile::server(&format!("system:node:{node}"), names, YEAR);
    profile.subject.organizations = vec!["system:nodes".to_owned()];
    profile
}

fn still_good(certificate: &str, key: &str, authority: &Authority, profile: &Profile) -> bool {
    let (Ok(read), Ok(key)) = (Certificate::from_pem(certificate), PrivateKey::from_pem(key))
    else {
        return false;
    };
    let Subject { common_name, organizations } = &profile.subject;
    read.public_key == key.public_der()
        && read.subject.common_name == *common_name
        && read.subject.organizations == *organizations
        && read.names.covers(&profile.names)
        && read.not_after - clock::now() > RENEW_BEFORE
        && signed_by(certificate, authority)
}

fn signed_by(certificate: &str, authority: &Authority) -> bool {
    let Ok(chain) = pem::certificates(certificate) else { return false };
    crate::verify::signed_by(&chain[0], authority.certificate())
}

fn load_authority(dir: &Path, file: &str, name: &str) -> Result<Authority> {
    let certificate = dir.join(format!("{file}.crt"));
    let key = dir.join(format!("{file}.key"));
    if let Some(text) = files::read(&certificate)? {
        // The certificate is written last, so with it there is a key; without one the error says so.
        let key_text = fs::read_to_string(&key)
            .map_err(|source| crate::Error::File { path: key.clone(), source })?;
        return Authority::from_pem(&text, &key_text);
    }
    let authority = Authority::generate(name)?;
    files::write(&key, authority.key().to_pem().as_bytes(), 0o600)?;
    files::write(&certificate, authority.pem().as_bytes(), 0o644)?;
    Ok(authority)
}

fn load_key(path: &Path) -> Result<PrivateKey> {
    if let Some(text) = files::read(path)? {
        return PrivateKey::from_pem(&text);
    }
    let key = PrivateKey::generate()?;
    files::write(path, key.to_pem().as_bytes(), 0o600)?;
    Ok(key)
}

/// Drops the signing key's own public half, which is known already.
fn strip(text: &str, signing: &PrivateKey) -> String {
    text.replace(&pem::encode("PUBLIC KEY", &signing.public_der()), "")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_cluster_keeps_its_keys_and_renews_what_must_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server/tls");
        let first = ClusterPki::load_or_create(&path).unwrap();
        let names = AltNames::new(["localhost", "10.43.0.1"]);
        let serving = first.serving(names.clone()).unwrap();
        let token = first.tokens.sign(&serde_json::json!({})).unwrap();

        let second = ClusterPki::load_or_create(&path).unwrap();
        assert_eq!(second.authority.der(), first.authority.der());
        assert!(second.tokens.verify::<serde_json::Value>(&token).is_ok());
        assert!(second.serving(names.clone()).unwrap() == serving, "kept");
        assert!(second.serving(AltNames::new(["localhost"])).unwrap() == serving, "names enough");
        let more = AltNames::new(["localhost", "10.43.0.1", "192.0.2.1"]);
        assert!(second.serving(more).unwrap() != serving, "renewed for one more name");

        for (file, mode) in [("ca.key", 0o600), ("ca.crt", 0o644), ("sa.key", 0o600)] {
            let permissions = fs::metadata(path.join(file)).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode, "{file}");
        }
    }

    #[test]
    fn certificates_of_another_authority_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let pki = ClusterPki::load_or_create(dir.path()).unwrap();
        let admin = pki.admin().unwrap();
        fs::remove_file(dir.path().join("ca.crt")).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let pki = ClusterPki::load_or_create(dir.path()).unwrap();
        assert!(pki.admin().unwrap() != admin);
    }
}
