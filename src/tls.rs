//! Keys and certificates in the form that rustls takes.

use std::sync::Arc;

use pki::{Authority, cluster::Identity};
use rustls::{
    ClientConfig, Error, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// The certificate chain and key of `identity`.
pub(crate) fn material(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let bad = |error: pki::Error| Error::General(error.to_string());
    let chain = pki::pem::certificates(&identity.certificate).map_err(bad)?;
    let key = pki::PrivateKey::from_pem(&identity.key).map_err(bad)?;
    let key = PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec());
    Ok((chain.into_iter().map(CertificateDer::from).collect(), key.into()))
}

/// A client that shows `identity` and trusts what `authority` has signed.
pub(crate) fn client(
    authority: &Authority,
    identity: &Identity,
) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der().to_vec()))?;
    let (chain, key) = material(identity)?;
    let provider = pki::ciphers::provider();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config))
}
