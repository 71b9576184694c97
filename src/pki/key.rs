//! Private keys: ECDSA on P-256, the curve that every TLS stack has and that signs in microseconds.

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    },
};

use crate::{
    Error, Result,
    der::{self, Reader},
    pem,
};

/// id-ecPublicKey, prime256v1.
const ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// A P-256 private key.
pub struct PrivateKey {
    pkcs8: Vec<u8>,
    pair: EcdsaKeyPair,
}

impl PrivateKey {
    /// A new key from the system's random source.
    ///
    /// # Errors
    /// When that source fails.
    pub fn generate() -> Result<Self> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| Error::Crypto("generating a key"))?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads PKCS #8.
    ///
    /// # Errors
    /// When it holds something else than a P-256 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random)
            .map_err(|_| Error::Malformed("private key"))?;
        Ok(Self { pkcs8: pkcs8.to_owned(), pair })
    }

    /// Reads a PEM file with a `PRIVATE KEY` (PKCS #8) or an `EC PRIVATE KEY` (SEC 1, as
    /// `openssl ecparam` and kubeadm write it).
    ///
    /// # Errors
    /// When there is no P-256 key in it.
    pub fn from_pem(text: &str) -> Result<Self> {
        for block in pem::decode(text)? {
            match block.label.as_str() {
                "PRIVATE KEY" => return Self::from_pkcs8(&block.der),
                "EC PRIVATE KEY" => return Self::from_sec1(&block.der),
                _ => {}
            }
        }
        Err(Error::Malformed("private key"))
    }

    fn from_sec1(sec1: &[u8]) -> Result<Self> {
        let mut fields = Reader::new(sec1).expect(der::SEQUENCE)?.inside();
        let version = fields.expect(der::INTEGER)?;
        let scalar = fields.expect(der::OCTET_STRING)?;
        fields.optional(der::explicit(0))?;
        let point = fields.expect(der::explicit(1))?;
        // ring wants the inner key without the curve, which stands outside.
        let inner = der::sequence(&[version.whole, scalar.whole, point.whole]);
        let pkcs8 =
            der::sequence(&[&[2, 1, 0], ALGORITHM, &der::tlv(der::OCTET_STRING, &[&inner])]);
        Self::from_pkcs8(&pkcs8)
    }

    /// PKCS #8 in PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// PKCS #8 in DER.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public point, uncompressed (65 bytes).
    pub fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn public_der(&self) -> Vec<u8> {
        public_der(self.public_point())
    }

    /// An ECDSA-with-SHA-256 signature in ASN.1 form, as X.509 has it.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature =
            self.pair.sign(&SystemRandom::new(), message).map_err(|_| Error::Crypto("signing"))?;
        Ok(signature.as_ref().to_owned())
    }

    /// The same key for signatures of fixed length (r and s, 64 bytes), as JOSE has them.
    pub(crate) fn fixed(&self) -> Result<EcdsaKeyPair> {
        EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &self.pkcs8,
            &SystemRandom::new(),
        )
        .map_err(|_| Error::Malformed("private key"))
    }
}

/// The SubjectPublicKeyInfo of a P-256 point.
pub(crate) fn public_der(point: &[u8]) -> Vec<u8> {
    der::sequence(&[ALGORITHM, &der::bit_string(point)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_through_pem() {
        let key = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public_point(), again.public_point());
        assert!(PrivateKey::from_pem("").is_err());
    }

    #[test]
    fn a_sec1_key_is_read() {
        let key = PrivateKey::generate().unwrap();
        let mut pkcs8 = Reader::new(key.to_pkcs8()).any().unwrap().inside();
        pkcs8.any().unwrap();
        pkcs8.any().unwrap();
        let inner = pkcs8.expect(der::OCTET_STRING).unwrap();
        let mut fields = inner.inside().any().unwrap().inside();
        let [version, scalar, point] = [(); 3].map(|()| fields.any().unwrap().whole);
        let curve = der::tlv(der::explicit(0), &[&ALGORITHM[11..]]);
        let sec1 = pem::encode("EC PRIVATE KEY", &der::sequence(&[version, scalar, &curve, point]));
        assert_eq!(PrivateKey::from_pem(&sec1).unwrap().public_point(), key.public_point());
    }
}
