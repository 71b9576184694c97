//! Certificate authorities, and what they sign.

use std::net::IpAddr;

use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};

use crate::{
    AltNames, Certificate, Error, PrivateKey, Result, Subject,
    certificate::oid,
    clock,
    der::{self, bit_string, sequence, tlv},
    pem,
};

/// Years that a cluster's authorities last, as kubeadm's do.
const AUTHORITY_SECONDS: i64 = 10 * 365 * 86_400;
/// Clocks of a cluster may differ a little: certificates begin this long ago.
const BACKDATE: i64 = 5 * 60;

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usages {
    /// TLS server.
    pub server: bool,
    /// TLS client.
    pub client: bool,
    /// RSA key exchange, which only RSA keys can do.
    pub key_encipherment: bool,
}

/// What to put into a certificate.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Whom it names.
    pub subject: Subject,
    /// Further names: hosts and addresses of servers.
    pub names: AltNames,
    /// What it may be used for.
    pub usages: Usages,
    /// Seconds that it is valid from now.
    pub lifetime: i64,
}

impl Profile {
    /// A TLS client known as `user` in `groups`.
    pub fn client(user: &str, groups: &[&str], lifetime: i64) -> Self {
        Self {
            subject: subject(user, groups),
            usages: Usages { client: true, ..Usages::default() },
            lifetime,
            ..Self::default()
        }
    }

    /// A TLS server reached under `names`.
    pub fn server(name: &str, names: AltNames, lifetime: i64) -> Self {
        Self {
            subject: subject(name, &[]),
            names,
            usages: Usages { server: true, ..Usages::default() },
            lifetime,
        }
    }
}

fn subject(name: &str, organizations: &[&str]) -> Subject {
    Subject {
        common_name: name.to_owned(),
        organizations: organizations.iter().map(|&o| o.to_owned()).collect(),
    }
}

/// A certificate authority: a key and the certificate that names it.
pub struct Authority {
    key: PrivateKey,
    der: Vec<u8>,
    certificate: Certificate,
}

impl Authority {
    /// A new self-signed authority.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate(name: &str) -> Result<Self> {
        let key = PrivateKey::generate()?;
        let subject = subject(name, &[]);
        let now = clock::now();
        let body = Body {
            issuer: &encode_name(&subject),
            subject: &subject,
            public_key: &key.public_der(),
            not_before: now - BACKDATE,
            not_after: now + AUTHORITY_SECONDS,
            extensions: vec![
                extension(
                    oid::KEY_USAGE,
                    true,
                    &key_usage(&[KEY_CERT_SIGN, CRL_SIGN, DIGITAL_SIGNATURE]),
                ),
                extension(oid::BASIC_CONSTRAINTS, true, &sequence(&[&[der::BOOLEAN, 1, 0xff]])),
                subject_key_id(key.public_point()),
            ],
        };
        let der = body.sign(&key)?;
        let certificate = Certificate::parse(&der)?;
        Ok(Self { key, der, certificate })
    }

    /// An authority from its PEM files. The certificate must be the key's.
    ///
    /// # Errors
    /// When they do not parse or do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        let key = PrivateKey::from_pem(key)?;
        let der = pem::certificates(certificate)?.swap_remove(0);
        let certificate = Certificate::parse(&der)?;
        if certificate.public_key != key.public_der() {
            return Err(Error::Untrusted(
                "the authority's certificate is not that of its key".into(),
            ));
        }
        Ok(Self { key, der, certificate })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM: what clients trust.
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// The authority's private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The certificate as read.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs a certificate for `key`; returns DER.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(&self, profile: &Profile, key: &PrivateKey) -> Result<Vec<u8>> {
        self.issue_for(profile, &key.public_der())
    }

    /// Signs a certificate for the owner of a public key (SubjectPublicKeyInfo in DER); returns
    /// DER. It never outlives the authority.
    ///
    /// # Errors
    /// When signing fails or the key is malformed.
    pub fn issue_for(&self, profile: &Profile, public_key: &[u8]) -> Result<Vec<u8>> {
        let now = clock::now();
        let Profile { subject, names, usages, lifetime } = profile;
        let mut bits = vec![DIGITAL_SIGNATURE];
        if usages.key_encipherment {
            bits.push(KEY_ENCIPHERMENT);
        }
        let mut purposes = Vec::new();
        if usages.server {
            purposes.extend(tlv(der::OID, &[oid::SERVER_AUTH]));
        }
        if usages.client {
            purposes.extend(tlv(der::OID, &[oid::CLIENT_AUTH]));
        }
        let mut extensions = vec![extension(oid::KEY_USAGE, true, &key_usage(&bits))];
        if !purposes.is_empty() {
            extensions.push(extension(oid::EXTENDED_KEY_USAGE, false, &sequence(&[&purposes])));
        }
        extensions.push(extension(oid::BASIC_CONSTRAINTS, true, &sequence(&[])));
        let own = key_id(self.key.public_point());
        let own = sequence(&[&tlv(der::context(0), &[&own])]);
        extensions.push(extension(oid::AUTHORITY_KEY_ID, false, &own));
        if !names.is_empty() {
            extensions.push(extension(oid::SUBJECT_ALT_NAME, false, &encode_alt_names(names)));
        }
        Body {
            issuer: &self.certificate.subject_der,
            subject,
            public_key,
            not_before: now - BACKDATE,
            not_after: now.saturating_add(*lifetime).min(self.certificate.not_after),
            extensions,
        }
        .sign(&self.key)
    }
}

/// The to-be-signed part of a certificate.
struct Body<'a> {
    /// Name in DER.
    issuer: &'a [u8],
    subject: &'a Subject,
    /// SubjectPublicKeyInfo in DER.
    public_key: &'a [u8],
    not_before: i64,
    not_after: i64,
    extensions: Vec<Vec<u8>>,
}

impl Body<'_> {
    fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>> {
        let mut serial = [0; 16];
        SystemRandom::new().fill(&mut serial).map_err(|_| Error::Crypto("random numbers"))?;
        serial[0] &= 0x7f;
        let algorithm = sequence(&[&tlv(der::OID, &[oid::ECDSA_SHA256])]);
        let extensions: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        let tbs = sequence(&[
            // Version 3.
            &[0xa0, 3, 2, 1, 2],
            &der::positive_integer(&serial),
            &algorithm,
            self.issuer,
            &sequence(&[&clock::encode(self.not_before), &clock::encode(self.not_after)]),
            &encode_name(self.subject),
            self.public_key,
            &tlv(der::explicit(3), &[&sequence(&extensions)]),
        ]);
        let signature = key.sign(&tbs)?;
        Ok(sequence(&[&tbs, &algorithm, &bit_string(&signature)]))
    }
}

/// Organizations first, then the common name, the order in which Go writes them.
pub(crate) fn encode_name(subject: &Subject) -> Vec<u8> {
    let attribute = |id: &[u8], value: &str| {
        let printable =
            value.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
        let tag = if printable { der::PRINTABLE_STRING } else { der::UTF8_STRING };
        sequence(&[&tlv(der::OID, &[id]), &tlv(tag, &[value.as_bytes()])])
    };
    let mut parts = Vec::new();
    if !subject.organizations.is_empty() {
        // Go puts all organizations into one set, which DER wants sorted.
        let mut set: Vec<_> =
            subject.organizations.iter().map(|o| attribute(oid::ORGANIZATION, o)).collect();
        set.sort();
        let set: Vec<&[u8]> = set.iter().map(Vec::as_slice).collect();
        parts.push(tlv(der::SET, &set));
    }
    if !subject.common_name.is_empty() {
        parts.push(tlv(der::SET, &[&attribute(oid::COMMON_NAME, &subject.common_name)]));
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    sequence(&parts)
}

pub(crate) fn encode_alt_names(names: &AltNames) -> Vec<u8> {
    let text = |tag: u8, name: &String| tlv(der::context(tag), &[name.as_bytes()]);
    let ip = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => tlv(der::context(7), &[&v4.octets()]),
        IpAddr::V6(v6) => tlv(der::context(7), &[&v6.octets()]),
    };
    let parts: Vec<Vec<u8>> = names
        .dns
        .iter()
        .map(|name| text(2, name))
        .chain(names.emails.iter().map(|name| text(1, name)))
        .chain(names.ips.iter().map(ip))
        .chain(names.uris.iter().map(|name| text(6, name)))
        .collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    sequence(&parts)
}

pub(crate) fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
    sequence(&[&tlv(der::OID, &[id]), critical, &tlv(der::OCTET_STRING, &[content])])
}

// Bits of KeyUsage, counted from the left.
const DIGITAL_SIGNATURE: u8 = 0;
const KEY_ENCIPHERMENT: u8 = 2;
const KEY_CERT_SIGN: u8 = 5;
const CRL_SIGN: u8 = 6;

fn key_usage(bits: &[u8]) -> Vec<u8> {
    let byte = bits.iter().fold(0_u8, |byte, bit| byte | 0x80 >> bit);
    tlv(der::BIT_STRING, &[&[byte.trailing_zeros() as u8, byte]])
}

fn key_id(point: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, point).as_ref()[..20].to_owned()
}

fn subject_key_id(point: &[u8]) -> Vec<u8> {
    extension(oid::SUBJECT_KEY_ID, false, &tlv(der::OCTET_STRING, &[&key_id(point)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_issued_reads_back() {
        let ca = Authority::generate("kubernetes").unwrap();
        let key = PrivateKey::generate().unwrap();
        let profile = Profile {
            subject: subject("system:node:one", &["system:nodes", "b", "ünicode"]),
            names: AltNames::new(["localhost", "127.0.0.1", "::1", "localhost"]),
            usages: Usages { server: true, client: true, key_encipherment: false },
            lifetime: 3600,
        };
        let read = Certificate::parse(&ca.issue(&profile, &key).unwrap()).unwrap();
        assert_eq!(read.subject.common_name, "system:node:one");
        assert_eq!(read.subject.organizations.len(), 3);
        assert!(read.subject.organizations.contains(&"ünicode".to_owned()));
        assert_eq!(read.names, profile.names);
        assert_eq!(read.public_key, key.public_der());
        assert_eq!(read.not_after - read.not_before, 3600 + BACKDATE);
    }

    #[test]
    fn nothing_outlives_its_authority() {
        let ca = Authority::generate("kubernetes").unwrap();
        let profile = Profile::client("a", &[], i64::MAX);
        let leaf = ca.issue(&profile, &PrivateKey::generate().unwrap()).unwrap();
        assert_eq!(Certificate::parse(&leaf).unwrap().not_after, ca.certificate().not_after);
    }

    #[test]
    fn an_authority_round_trips_and_refuses_a_strangers_key() {
        let ca = Authority::generate("kubernetes").unwrap();
        let again = Authority::from_pem(&ca.pem(), &ca.key().to_pem()).unwrap();
        assert_eq!(again.der(), ca.der());
        let other = PrivateKey::generate().unwrap();
        assert!(Authority::from_pem(&ca.pem(), &other.to_pem()).is_err());
    }
}
