//! Who may call the kubelet: clients with a certificate of the cluster's authority that are the API
//! server or an administrator.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::ServingIdentity;

/// Common names under which an API server calls kubelets.
const API_SERVERS: [&str; 2] = ["kube-apiserver-kubelet-client", "apiserver-kubelet-client"];
/// Groups that may do anything, or anything with nodes.
const GROUPS: [&str; 2] = ["system:masters", "system:kubelet-api-admin"];

/// Why the API cannot be served with an identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("serving identity: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("serving identity: {0}")]
    Tls(#[from] rustls::Error),
    #[error("client authority: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The TLS settings of the API.
pub(super) fn tls(identity: &ServingIdentity) -> Result<Arc<ServerConfig>, Error> {
    let provider = pki::ciphers::provider();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(identity.client_ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain?, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a client is to this kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// May do everything.
    Admin,
    /// Proved to be somebody, who may do nothing here.
    Known,
    /// Proved nothing.
    Anonymous,
}

/// Tells who a verified certificate belongs to.
pub(super) fn caller(certificates: Option<&[CertificateDer<'_>]>) -> Caller {
    let Some(own) = certificates.and_then(<[_]>::first) else { return Caller::Anonymous };
    let Ok((_, certificate)) = X509Certificate::from_der(own) else { return Caller::Anonymous };
    let subject = certificate.subject();
    let is_server = subject
        .iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .any(|name| API_SERVERS.contains(&name));
    let is_admin = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .any(|group| GROUPS.contains(&group));
    if is_server || is_admin { Caller::Admin } else { Caller::Known }
}
