//! Which certificate a client gets: by the host that it names in its hello (SNI).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::model::{Certificate, Ingress, key};
use crate::path::wildcard_of;

/// The certificates of all Ingresses.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By Secret.
    secrets: HashMap<String, Secret>,
    /// By host or wildcard: who wants which Secret, the one that holds first.
    hosts: HashMap<Box<str>, Vec<Claim>>,
    /// Which hosts an Ingress has claims on.
    ingresses: HashMap<Arc<str>, (u32, Vec<Box<str>>)>,
    default: Option<Arc<CertifiedKey>>,
    generation: u32,
}

#[derive(Debug)]
struct Secret {
    generation: u32,
    certificate: Certificate,
    key: Arc<CertifiedKey>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    created: i64,
    ingress: Arc<str>,
    secret: String,
}

/// Why a certificate is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidCertificate {
    /// A part is not PEM, or there is none.
    #[error("not readable")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The key is of an unknown kind, or belongs to another certificate.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// There is a key only.
    #[error("has no certificate")]
    Empty,
}

impl Certificates {
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self) {
        let mut state = self.write();
        state.generation = state.generation.wrapping_add(1);
    }

    pub(crate) fn synced(&self) {
        let mut state = self.write();
        let generation = state.generation;
        state.secrets.retain(|_, secret| secret.generation == generation);
        let stale = |(_, (of, _)): &(&Arc<str>, &(u32, _))| *of != generation;
        let stale: Vec<Arc<str>> =
            state.ingresses.iter().filter(stale).map(|(key, _)| key.clone()).collect();
        for key in stale {
            state.remove_ingress(&key);
        }
    }

    /// Takes over a certificate. One that is of no use replaces nothing: an Ingress goes on with
    /// what it had.
    pub(crate) fn upsert(&self, certificate: Certificate) -> Result<(), InvalidCertificate> {
        let mut state = self.write();
        let generation = state.generation;
        let name = key(&certificate.namespace, &certificate.name);
        if let Some(secret) = state.secrets.get_mut(&name) {
            secret.generation = generation;
            if secret.certificate == certificate {
                return Ok(());
            }
        }
        let key = certified_key(&certificate)?;
        state.secrets.insert(name, Secret { generation, certificate, key });
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) {
        self.write().secrets.remove(name);
    }

    pub(crate) fn set_default(&self, certificate: &Certificate) -> Result<(), InvalidCertificate> {
        let key = certified_key(certificate)?;
        self.write().default = Some(key);
        Ok(())
    }

    /// Takes over which hosts an Ingress has certificates for. Where it does not name any, those
    /// of its rules are meant.
    pub(crate) fn upsert_ingress(&self, ingress: &Ingress) {
        let mut state = self.write();
        let name: Arc<str> = key(&ingress.namespace, &ingress.name).into();
        state.remove_ingress(&name);
        let mut claimed: Vec<Box<str>> = Vec::new();
        for tls in &ingress.tls {
            let of_rules = || ingress.rules.iter().map(|rule| rule.host.as_str());
            let hosts: Vec<&str> = match tls.hosts.is_empty() {
                true => of_rules().collect(),
                false => tls.hosts.iter().map(String::as_str).collect(),
            };
            for host in hosts {
                let claim = Claim {
                    created: ingress.created,
                    ingress: name.clone(),
                    secret: key(&ingress.namespace, &tls.secret),
                };
                let claims = state.hosts.entry(host.into()).or_default();
                let at = claims.partition_point(|other| *other < claim);
                claims.insert(at, claim);
                claimed.push(host.into());
            }
        }
        let generation = state.generation;
        state.ingresses.insert(name, (generation, claimed));
    }

    pub(crate) fn remove_ingress(&self, name: &str) {
        self.write().remove_ingress(name);
    }

    /// The certificate for a host that a client names, or for one that names none.
    pub(crate) fn find(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let host = host.unwrap_or_default().to_ascii_lowercase();
        let wildcard = wildcard_of(&host);
        let names = [Some(host.as_str()), wildcard.as_deref(), Some("")];
        let claims = names.into_iter().flatten().filter_map(|name| state.hosts.get(name));
        // Behind a claim there may be no Secret yet.
        let secret = claims.flatten().find_map(|claim| state.secrets.get(&claim.secret));
        secret.map(|secret| secret.key.clone()).or_else(|| state.default.clone())
    }
}

impl State {
    fn remove_ingress(&mut self, name: &str) {
        let Some((_, hosts)) = self.ingresses.remove(name) else { return };
        for host in hosts {
            let Some(claims) = self.hosts.get_mut(&host) else { continue };
            claims.retain(|claim| &*claim.ingress != name);
            if claims.is_empty() {
                self.hosts.remove(&host);
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// Checks that a certificate can be served.
pub(crate) fn certified_key(
    certificate: &Certificate,
) -> Result<Arc<CertifiedKey>, InvalidCertificate> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).collect::<Result<_, _>>()?;
    if chain.is_empty() {
        return Err(InvalidCertificate::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Arc::new(certified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Rule, Tls};

    fn certificate(name: &str) -> Certificate {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
        Certificate {
            namespace: "ns".into(),
            name: name.into(),
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    fn ingress(name: &str, created: i64, tls: &[(&[&str], &str)]) -> Ingress {
        let tls = tls.iter().map(|(hosts, secret)| Tls {
            hosts: hosts.iter().map(|host| host.to_string()).collect(),
            secret: secret.to_string(),
        });
        Ingress {
            namespace: "ns".into(),
            name: name.into(),
            created,
            rules: vec![Rule { host: "rule.com".into(), paths: vec![] }],
            tls: tls.collect(),
            ..Ingress::default()
        }
    }

    fn der(certificate: &Certificate) -> Vec<u8> {
        CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap().to_vec()
    }

    fn found(certificates: &Certificates, host: &str) -> Option<Vec<u8>> {
        certificates.find(Some(host)).map(|key| key.cert[0].to_vec())
    }

    #[test]
    fn by_host() {
        let certificates = Certificates::default();
        let [default, own, wildcard, rule] =
            ["default", "own", "wildcard", "rule"].map(certificate);
        certificates.upsert_ingress(&ingress(
            "a",
            1,
            &[(&["www.a.com"], "own"), (&["*.a.com"], "wildcard"), (&[], "rule")],
        ));
        assert!(certificates.find(Some("www.a.com")).is_none());
        certificates.set_default(&default).unwrap();
        assert_eq!(found(&certificates, "www.a.com"), Some(der(&default)));
        for certificate in [&own, &wildcard, &rule] {
            certificates.upsert(certificate.clone()).unwrap();
        }
        assert_eq!(found(&certificates, "www.A.com"), Some(der(&own)));
        assert_eq!(found(&certificates, "x.a.com"), Some(der(&wildcard)));
        assert_eq!(found(&certificates, "x.y.a.com"), Some(der(&default)));
        assert_eq!(found(&certificates, "a.com"), Some(der(&default)));
        assert_eq!(found(&certificates, "rule.com"), Some(der(&rule)));
        assert_eq!(certificates.find(None).unwrap().cert[0].to_vec(), der(&default));

        // Where the exact one is lacking, the wildcard is better than the default.
        certificates.remove("ns/own");
        assert_eq!(found(&certificates, "www.a.com"), Some(der(&wildcard)));

        // A host belongs to the older Ingress.
        certificates.upsert_ingress(&ingress("b", 0, &[(&["x.a.com"], "rule")]));
        certificates.upsert_ingress(&ingress("c", 2, &[(&["*.a.com"], "rule")]));
        assert_eq!(found(&certificates, "x.a.com"), Some(der(&rule)));
        assert_eq!(found(&certificates, "y.a.com"), Some(der(&wildcard)));
        certificates.remove_ingress("ns/a");
        assert_eq!(found(&certificates, "y.a.com"), Some(der(&rule)));
        certificates.begin();
        certificates.synced();
        assert_eq!(found(&certificates, "y.a.com"), Some(der(&default)));
        assert!(certificates.write().hosts.is_empty());
    }

    #[test]
    fn a_damaged_one_replaces_nothing() {
        let certificates = Certificates::default();
        let good = certificate("own");
        certificates.upsert(good.clone()).unwrap();
        certificates.upsert_ingress(&ingress("a", 1, &[(&["a.com"], "own")]));
        let other = certificate("own");
        for (chain, key) in [
            ("", good.key.as_str()),
            ("-----BEGIN CERTIFICATE-----\nAA", &good.key),
            (&good.chain, "nonsense"),
            (&good.chain, &other.key),
        ] {
            let damaged = Certificate { chain: chain.into(), key: key.into(), ..good.clone() };
            assert!(certificates.upsert(damaged).is_err());
        }
        assert_eq!(found(&certificates, "a.com"), Some(der(&good)));
        certificates.upsert(other.clone()).unwrap();
        assert_eq!(found(&certificates, "a.com"), Some(der(&other)));
    }
}
