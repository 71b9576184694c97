//! Reading X.509 certificates: whom they name and until when. Trust is decided in [`crate::verify`].

use std::net::IpAddr;

use crate::{
    Error, Result, clock,
    der::{self, Reader},
};

pub(crate) mod oid {
    pub(crate) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(crate) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
    /// PKCS #9 extensionRequest: where a signing request keeps its extensions.
    pub(crate) const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    pub(crate) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    pub(crate) const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    pub(crate) const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    pub(crate) const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
    pub(crate) const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
    pub(crate) const ECDSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    pub(crate) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    pub(crate) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    pub(crate) const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
    pub(crate) const P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
    pub(crate) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    pub(crate) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
}

/// Whom a certificate or a request names: in Kubernetes the user and its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN.
    pub common_name: String,
    /// O, in order.
    pub organizations: Vec<String>,
}

/// Subject alternative names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AltNames {
    /// Host names, wildcards included.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

impl AltNames {
    /// Sorts what are addresses from what are names.
    pub fn new<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Self {
        let mut all = Self::default();
        for name in names {
            let name = name.as_ref();
            match name.parse() {
                Ok(ip) if !all.ips.contains(&ip) => all.ips.push(ip),
                Err(_) if !all.dns.iter().any(|known| known == name) => {
                    all.dns.push(name.to_owned())
                }
                _ => {}
            }
        }
        all
    }

    /// Whether every name of `other` is among these.
    pub fn covers(&self, other: &Self) -> bool {
        other.dns.iter().all(|name| self.dns.contains(name))
            && other.ips.iter().all(|ip| self.ips.contains(ip))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.emails.is_empty() && self.uris.is_empty()
    }
}

/// What Kubernetes wants to know of a certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
    /// Whom it names.
    pub subject: Subject,
    /// The subject's Name in DER: the issuer of what it signs.
    pub subject_der: Vec<u8>,
    /// First Unix second of validity.
    pub not_before: i64,
    /// Last Unix second of validity.
    pub not_after: i64,
    /// Other names.
    pub names: AltNames,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Whether it may sign others.
    pub is_ca: bool,
}

impl Certificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// When it is not X.509.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut outer = Reader::new(bytes).expect(der::SEQUENCE)?.inside();
        let mut tbs = outer.expect(der::SEQUENCE)?.inside();
        tbs.optional(der::explicit(0))?;
        let serial = tbs.expect(der::INTEGER)?.value.to_owned();
        tbs.expect(der::SEQUENCE)?;
        tbs.expect(der::SEQUENCE)?;
        let mut validity = tbs.expect(der::SEQUENCE)?.inside();
        let not_before = clock::decode(&validity.any()?)?;
        let not_after = clock::decode(&validity.any()?)?;
        let subject = tbs.expect(der::SEQUENCE)?;
        let public_key = tbs.expect(der::SEQUENCE)?.whole.to_owned();
        tbs.optional(der::context(1))?;
        tbs.optional(der::context(2))?;
        let extensions = match tbs.optional(der::explicit(3))? {
            Some(wrapper) => extensions(wrapper.inside().expect(der::SEQUENCE)?.inside())?,
            None => Extensions::default(),
        };
        Ok(Self {
            serial,
            subject: parse_subject(subject.inside())?,
            subject_der: subject.whole.to_owned(),
            not_before,
            not_after,
            names: extensions.names,
            public_key,
            is_ca: extensions.is_ca,
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::parse(&crate::pem::certificates(text)?[0])
    }
}

/// What a request or certificate says in its extensions.
#[derive(Default)]
pub(crate) struct Extensions {
    pub(crate) names: AltNames,
    /// OIDs of all extensions.
    pub(crate) present: Vec<Vec<u8>>,
    /// Whether the basic constraints are those of an authority.
    pub(crate) is_ca: bool,
}

pub(crate) fn extensions(mut list: Reader<'_>) -> Result<Extensions> {
    let mut found = Extensions::default();
    while !list.is_empty() {
        let mut extension = list.expect(der::SEQUENCE)?.inside();
        let id = extension.expect(der::OID)?.value;
        extension.optional(der::BOOLEAN)?;
        let content = extension.expect(der::OCTET_STRING)?;
        if id == oid::SUBJECT_ALT_NAME {
            found.names = alt_names(content.inside().expect(der::SEQUENCE)?.inside())?;
        }
        if id == oid::BASIC_CONSTRAINTS {
            let ca = content.inside().expect(der::SEQUENCE)?.inside().optional(der::BOOLEAN)?;
            found.is_ca = ca.is_some_and(|ca| ca.value != [0]);
        }
        found.present.push(id.to_owned());
    }
    Ok(found)
}

fn alt_names(mut list: Reader<'_>) -> Result<AltNames> {
    const RFC822: u8 = der::context(1);
    const DNS: u8 = der::context(2);
    const URI: u8 = der::context(6);
    const IP: u8 = der::context(7);
    let mut names = AltNames::default();
    let text =
        |bytes: &[u8]| String::from_utf8(bytes.to_owned()).map_err(|_| Error::Malformed("name"));
    while !list.is_empty() {
        let name = list.any()?;
        match name.tag {
            RFC822 => names.emails.push(text(name.value)?),
            DNS => names.dns.push(text(name.value)?),
            URI => names.uris.push(text(name.value)?),
            IP => {
                if let Ok(v4) = <[u8; 4]>::try_from(name.value) {
                    names.ips.push(v4.into());
                } else if let Ok(v6) = <[u8; 16]>::try_from(name.value) {
                    names.ips.push(v6.into());
                } else {
                    return Err(Error::Malformed("address"));
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

pub(crate) fn parse_subject(mut rdns: Reader<'_>) -> Result<Subject> {
    let mut subject = Subject::default();
    while !rdns.is_empty() {
        let mut set = rdns.expect(der::SET)?.inside();
        while !set.is_empty() {
            let mut attribute = set.expect(der::SEQUENCE)?.inside();
            let id = attribute.expect(der::OID)?.value;
            let value = attribute.any()?;
            if id == oid::COMMON_NAME {
                subject.common_name = directory_string(value)?;
            } else if id == oid::ORGANIZATION {
                subject.organizations.push(directory_string(value)?);
            }
        }
    }
    Ok(subject)
}

fn directory_string(value: der::Tlv<'_>) -> Result<String> {
    const BAD: Error = Error::Malformed("name");
    match value.tag {
        der::UTF8_STRING | der::PRINTABLE_STRING | der::TELETEX_STRING | der::IA5_STRING => {
            String::from_utf8(value.value.to_owned()).map_err(|_| BAD)
        }
        _ => Err(BAD),
    }
}
