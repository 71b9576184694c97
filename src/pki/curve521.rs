//! ECDSA on P-521, which ring does not have.

use p521::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _},
    },
    elliptic_curve::rand_core::OsRng,
};

use crate::{Error, Result, public::forged};

/// A private key.
pub(crate) struct Key(SigningKey);

impl Key {
    /// A new key from the system's random source.
    pub(crate) fn generate() -> Self {
        Self(SigningKey::random(&mut OsRng))
    }

    /// The scalar, of 66 bytes.
    pub(crate) fn scalar(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// The public point, uncompressed.
    pub(crate) fn point(&self) -> Vec<u8> {
        VerifyingKey::from(&self.0).to_encoded_point(false).as_bytes().to_vec()
    }

    /// A signature with SHA-512 in ASN.1 form.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature: Signature =
            self.0.try_sign(message).map_err(|_| Error::Crypto("signing"))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// Checks a signature with SHA-512 in ASN.1 form by a public point.
pub(crate) fn check(point: &[u8], message: &[u8], signature: &[u8]) -> Result<()> {
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| Error::Malformed("public key"))?;
    let signature = Signature::from_der(signature).map_err(|_| forged())?;
    key.verify(message, &signature).map_err(|_| forged())
}
