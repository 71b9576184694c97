//! What a kubeconfig says about where a cluster is and who one is there.

use std::{path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;

/// Where the API of a cluster is, and how to be let in.
#[derive(Clone)]
pub struct Endpoint {
    /// Host and port of the API.
    pub authority: String,
    /// TLS with the cluster's authority and, where the kubeconfig has one, the client certificate.
    pub tls: Arc<ClientConfig>,
    /// The line with the bearer token, or nothing.
    pub authorization: String,
}

/// Reads the first cluster and the first user of the kubeconfig at `path`.
pub fn read(path: &Path) -> Result<Endpoint, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| said(&error))?;
    let config: Value = serde_saphyr::from_str(&text).map_err(|error| said(&error))?;
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let server = cluster["server"].as_str().and_then(|url| url.strip_prefix("https://"));
    let server = server.ok_or_else(|| said(&"no https server"))?.trim_end_matches('/');
    let tls = tls(cluster, user).map_err(|error| said(&error))?;
    let token = user["token"].as_str();
    Ok(Endpoint {
        authority: server.to_owned(),
        tls: Arc::new(tls),
        authorization: token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default(),
    })
}

fn tls(cluster: &Value, user: &Value) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let authority = pem(cluster, "certificate-authority")?.ok_or("no certificate authority")?;
    for certificate in certificates(&authority)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match (pem(user, "client-certificate")?, pem(user, "client-key")?) {
        (Some(chain), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| error.to_string())?;
            let config = builder.with_client_auth_cert(certificates(&chain)?, key);
            config.map_err(|error| error.to_string())
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// What `name` names: a file, or with the suffix `-data` its content.
fn pem(of: &Value, name: &str) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = of[format!("{name}-data")].as_str() {
        return BASE64_STANDARD.decode(data).map(Some).map_err(|error| error.to_string());
    }
    let Some(path) = of[name].as_str() else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| format!("{path}: {error}"))
}
