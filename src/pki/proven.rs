//! Keys of every kind that a pod may ask for, each with the proof that its maker holds it: a request
//! for a certificate (PKCS #10) that says nothing but the key.

use std::str::FromStr;

use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    },
};

use crate::{
    Error, Result,
    certificate::oid,
    curve521,
    der::{self, bit_string, explicit, sequence, tlv},
    pem, rsa,
};

/// A kind of key, as `keyType` of a projected certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// `RSA3072`.
    Rsa3072,
    /// `RSA4096`.
    Rsa4096,
    /// `ECDSAP256`.
    P256,
    /// `ECDSAP384`.
    P384,
    /// `ECDSAP521`.
    P521,
    /// `ED25519`.
    Ed25519,
}

impl FromStr for KeyType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "RSA3072" => Self::Rsa3072,
            "RSA4096" => Self::Rsa4096,
            "ECDSAP256" => Self::P256,
            "ECDSAP384" => Self::P384,
            "ECDSAP521" => Self::P521,
            "ED25519" => Self::Ed25519,
            _ => return Err(Error::Malformed("key type")),
        })
    }
}

/// A new key and the proof that whoever sends it holds the key.
pub struct Proven {
    /// The private key: PKCS #8 in PEM.
    pub key: String,
    /// The proof: PKCS #10 in DER, with an empty subject and no attributes.
    pub request: Vec<u8>,
}

impl Proven {
    /// A new key of this kind. For RSA this takes seconds of computing.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn generate(kind: KeyType) -> Result<Self> {
        match kind {
            KeyType::Rsa3072 => Self::rsa(3072),
            KeyType::Rsa4096 => Self::rsa(4096),
            KeyType::P256 => {
                Self::ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, oid::P256, oid::ECDSA_SHA256)
            }
            KeyType::P384 => {
                Self::ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, oid::P384, oid::ECDSA_SHA384)
            }
            KeyType::P521 => Self::p521(),
            KeyType::Ed25519 => Self::ed25519(),
        }
    }

    fn ecdsa(
        algorithm: &'static EcdsaSigningAlgorithm,
        curve: &[u8],
        signed_with: &[u8],
    ) -> Result<Self> {
        const FAILED: Error = Error::Crypto("generating a key");
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| FAILED)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).map_err(|_| FAILED)?;
        let spki = sequence(&[&ec_algorithm(curve), &bit_string(pair.public_key().as_ref())]);
        let signed_with = sequence(&[&tlv(der::OID, &[signed_with])]);
        let request = stub(&spki, &signed_with, |message| {
            let signature = pair.sign(&random, message).map_err(|_| Error::Crypto("signing"))?;
            Ok(signature.as_ref().to_vec())
        })?;
        Ok(Self { key: pem::encode("PRIVATE KEY", document.as_ref()), request })
    }

    fn p521() -> Result<Self> {
        let key = curve521::Key::generate();
        let point = key.point();
        // ECPrivateKey of RFC 5915; the curve stands outside.
        let inner = sequence(&[
            &[der::INTEGER, 1, 1],
            &tlv(der::OCTET_STRING, &[&key.scalar()]),
            &tlv(explicit(1), &[&bit_string(&point)]),
        ]);
        let algorithm = ec_algorithm(oid::P521);
        let spki = sequence(&[&algorithm, &bit_string(&point)]);
        let signed_with = sequence(&[&tlv(der::OID, &[oid::ECDSA_SHA512])]);
        let request = stub(&spki, &signed_with, |message| key.sign(message))?;
        Ok(Self { key: pkcs8(&algorithm, &inner), request })
    }

    fn ed25519() -> Result<Self> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| Error::Crypto("random numbers"))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| Error::Crypto("generating a key"))?;
        let algorithm = sequence(&[&tlv(der::OID, &[oid::ED25519])]);
        let spki = sequence(&[&algorithm, &bit_string(pair.public_key().as_ref())]);
        let request = stub(&spki, &algorithm, |message| Ok(pair.sign(message).as_ref().to_vec()))?;
        Ok(Self { key: pkcs8(&algorithm, &tlv(der::OCTET_STRING, &[&seed])), request })
    }

    fn rsa(bits: usize) -> Result<Self> {
        let key = rsa::Key::generate(bits)?;
        let with_null = |id| sequence(&[&tlv(der::OID, &[id]), &[der::NULL, 0]]);
        let algorithm = with_null(oid::RSA);
        let spki = sequence(&[&algorithm, &bit_string(&key.public())]);
        let request = stub(&spki, &with_null(oid::RSA_SHA256), |message| key.sign(message))?;
        Ok(Self { key: pkcs8(&algorithm, key.private()), request })
    }
}

fn ec_algorithm(curve: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(der::OID, &[oid::EC_PUBLIC_KEY]), &tlv(der::OID, &[curve])])
}

fn pkcs8(algorithm: &[u8], inner: &[u8]) -> String {
    let key = tlv(der::OCTET_STRING, &[inner]);
    pem::encode("PRIVATE KEY", &sequence(&[&[der::INTEGER, 1, 0], algorithm, &key]))
}

/// A request that says nothing but the key.
fn stub(
    spki: &[u8],
    signed_with: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let info = sequence(&[&[der::INTEGER, 1, 0], &sequence(&[]), spki, &tlv(explicit(0), &[])]);
    let signature = bit_string(&sign(&info)?);
    Ok(sequence(&[&info, signed_with, &signature]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Subject, public::KeyKind, request::SigningRequest};

    #[test]
    fn every_kind_proves_itself() {
        for (name, kind) in [
            ("ECDSAP256", KeyKind::P256),
            ("ECDSAP384", KeyKind::P384),
            ("ECDSAP521", KeyKind::P521),
            ("ED25519", KeyKind::Ed25519),
            ("RSA3072", KeyKind::Rsa { bytes: 384 }),
        ] {
            let proven = Proven::generate(name.parse().unwrap()).unwrap();
            let request = SigningRequest::parse(&proven.request).unwrap();
            assert_eq!(request.subject, Subject::default(), "{name}");
            assert!(request.names.is_empty(), "{name}");
            assert_eq!(KeyKind::of(&request.public_key).unwrap(), kind, "{name}");
            // The last byte belongs to the signature.
            let mut forged = proven.request.clone();
            *forged.last_mut().unwrap() ^= 1;
            assert!(SigningRequest::parse(&forged).is_err(), "{name}");
            // TLS takes the private key.
            let der = pem::decode(&proven.key).unwrap().remove(0).der;
            let der = rustls::pki_types::PrivatePkcs8KeyDer::from(der).into();
            let signs = rustls::crypto::ring::sign::any_supported_type(&der);
            // rustls on ring has no P-521.
            assert_eq!(signs.is_ok(), name != "ECDSAP521", "{name}");
        }
        assert!("RSA2048".parse::<KeyType>().is_err());
    }
}
