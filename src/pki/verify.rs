//! Whether a chain of certificates leads to someone we trust.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{
    Certificate, Error, Result, clock,
    der::{self, Reader},
};

/// Judges the certificates of TLS clients against a set of authorities.
pub struct ClientVerifier {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    /// Trusts these authorities (DER).
    ///
    /// # Errors
    /// When one of them is not a certificate.
    pub fn new<'a>(authorities: impl IntoIterator<Item = &'a [u8]>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for der in authorities {
            roots
                .add(CertificateDer::from(der.to_owned()))
                .map_err(|_| Error::Malformed("authority certificate"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::Untrusted(error.to_string()))?;
        Ok(Self { verifier })
    }

    /// Verifies a chain, leaf first, for use as a TLS client now; returns the leaf as read.
    ///
    /// # Errors
    /// When nobody trusted vouches for it, it is expired, or it is no client certificate.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<Certificate> {
        let [leaf, intermediates @ ..] = chain else {
            return Err(Error::Malformed("certificate chain"));
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(clock::now().unsigned_abs()));
        self.verifier
            .verify_client_cert(leaf, intermediates, now)
            .map_err(|error| Error::Untrusted(error.to_string()))?;
        Certificate::parse(leaf)
    }
}

/// Whether `authority` has signed this certificate (DER), whatever its dates and uses.
pub(crate) fn signed_by(certificate: &[u8], authority: &Certificate) -> bool {
    let parts = || {
        let mut outer = Reader::new(certificate).expect(der::SEQUENCE)?.inside();
        let tbs = outer.expect(der::SEQUENCE)?.whole;
        let algorithm = outer.expect(der::SEQUENCE)?.inside().expect(der::OID)?.value;
        let signature = outer.expect(der::BIT_STRING)?.value;
        crate::public::check(&authority.public_key, algorithm, tbs, crate::public::bits(signature)?)
    };
    parts().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AltNames, Authority, PrivateKey, Profile};

    fn leaf(ca: &Authority, profile: &Profile) -> CertificateDer<'static> {
        ca.issue(profile, &PrivateKey::generate().unwrap()).unwrap().into()
    }

    #[test]
    fn only_own_unexpired_client_certificates_pass() {
        let ca = Authority::generate("kubernetes").unwrap();
        let other = Authority::generate("kubernetes").unwrap();
        let verifier = ClientVerifier::new([ca.der()]).unwrap();
        let client = Profile::client("a", &["g"], 3600);
        assert_eq!(verifier.verify(&[leaf(&ca, &client)]).unwrap().subject.common_name, "a");
        assert!(verifier.verify(&[leaf(&other, &client)]).is_err(), "a stranger's");
        assert!(
            verifier.verify(&[leaf(&ca, &Profile { lifetime: -10, ..client })]).is_err(),
            "expired"
        );
        let server = Profile::server("a", AltNames::default(), 3600);
        assert!(verifier.verify(&[leaf(&ca, &server)]).is_err(), "a server's");
        assert!(verifier.verify(&[]).is_err());
    }
}
