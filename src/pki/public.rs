//! Public keys as certificates and requests hold them: which kind they are of, and what they have
//! signed.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::{
    Error, Result,
    certificate::oid,
    curve521,
    der::{self, Reader},
};

/// The kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// ECDSA on another curve.
    OtherCurve,
    /// RSA with a modulus of so many bytes.
    Rsa {
        /// Bytes of the modulus.
        bytes: usize,
    },
    /// Something else.
    Other,
}

impl KeyKind {
    /// The kind of the key in a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn of(spki: &[u8]) -> Result<Self> {
        let Parts { algorithm, curve, key } = Parts::read(spki)?;
        Ok(match algorithm {
            oid::ED25519 => Self::Ed25519,
            oid::EC_PUBLIC_KEY => match curve {
                Some(oid::P256) => Self::P256,
                Some(oid::P384) => Self::P384,
                Some(oid::P521) => Self::P521,
                _ => Self::OtherCurve,
            },
            oid::RSA => {
                let mut fields = Reader::new(key).expect(der::SEQUENCE)?.inside();
                let modulus = fields.expect(der::INTEGER)?.value;
                let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
                Self::Rsa { bytes: modulus.len() - zeros }
            }
            _ => Self::Other,
        })
    }
}

/// What a SubjectPublicKeyInfo holds.
struct Parts<'a> {
    algorithm: &'a [u8],
    /// The algorithm's parameter, if that is an OID.
    curve: Option<&'a [u8]>,
    key: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(spki: &'a [u8]) -> Result<Self> {
        let mut fields = Reader::new(spki).expect(der::SEQUENCE)?.inside();
        let mut algorithm = fields.expect(der::SEQUENCE)?.inside();
        Ok(Self {
            algorithm: algorithm.expect(der::OID)?.value,
            curve: algorithm.optional(der::OID)?.map(|oid| oid.value),
            key: bits(fields.expect(der::BIT_STRING)?.value)?,
        })
    }
}

/// The bytes of a bit string, which must be whole bytes.
pub(crate) fn bits(value: &[u8]) -> Result<&[u8]> {
    match value {
        [0, bits @ ..] => Ok(bits),
        _ => Err(Error::Malformed("bit string")),
    }
}

/// Checks a signature by the key in a SubjectPublicKeyInfo.
pub(crate) fn check(spki: &[u8], algorithm: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    let Parts { key, .. } = Parts::read(spki)?;
    let kind = KeyKind::of(spki)?;
    let verifier: &dyn VerificationAlgorithm = match (algorithm, kind) {
        (oid::ECDSA_SHA256, KeyKind::P256) => &signature::ECDSA_P256_SHA256_ASN1,
        (oid::ECDSA_SHA384, KeyKind::P384) => &signature::ECDSA_P384_SHA384_ASN1,
        (oid::ECDSA_SHA256, KeyKind::P384) => &signature::ECDSA_P384_SHA256_ASN1,
        (oid::ECDSA_SHA384, KeyKind::P256) => &signature::ECDSA_P256_SHA384_ASN1,
        (oid::ECDSA_SHA512, KeyKind::P521) => return curve521::check(key, message, signature),
        (oid::RSA_SHA256, KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (oid::RSA_SHA384, KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (oid::RSA_SHA512, KeyKind::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (oid::ED25519, KeyKind::Ed25519) => &signature::ED25519,
        _ => return Err(Error::Malformed("signature algorithm")),
    };
    UnparsedPublicKey::new(verifier, key).verify(message, signature).map_err(|_| forged())
}

/// The error of a signature that does not match.
pub(crate) fn forged() -> Error {
    Error::Untrusted("the signature is not by this key".into())
}
