//! Kubeconfig files: where the cluster is, whom to trust, who one is.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{Result, cluster::Identity, files};

/// What a kubeconfig says.
pub struct Kubeconfig<'a> {
    /// Name of cluster and context.
    pub cluster: &'a str,
    /// `https://host:port`.
    pub server: &'a str,
    /// PEM of the authority that signed the server's certificate.
    pub authority: &'a str,
    /// Name of the user entry.
    pub user: &'a str,
    /// Client certificate and key.
    pub identity: &'a Identity,
}

impl Kubeconfig<'_> {
    /// The file's text: YAML, every value of which is quoted as JSON is, so that nothing needs
    /// escaping rules of its own.
    pub fn to_yaml(&self) -> String {
        let encode = |text: &str| json!(STANDARD.encode(text));
        let Self { cluster, server, user, .. } = self;
        let [cluster, server, user] = [cluster, server, user].map(|text| json!(text));
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    certificate-authority-data: {}\n\
             users:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
             contexts:\n- name: {cluster}\n  context:\n    cluster: {cluster}\n    user: {user}\n\
             current-context: {cluster}\n",
            encode(self.authority),
            encode(&self.identity.certificate),
            encode(&self.identity.key),
        )
    }

    /// Writes the file with this mode, unless it says the same already.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, path: &Path, mode: u32) -> Result<()> {
        let text = self.to_yaml();
        if files::read(path)?.as_deref() == Some(&text) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            // A public place such as /etc/knarr keeps the mode that it has.
            files::create_dir(parent)?;
        }
        files::write(path, text.as_bytes(), mode)
    }
}
