//! Service account tokens as JSON Web Tokens: ES256 (RFC 7515, 7518), and the key set under which
//! others can verify them (RFC 7517).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Error, PrivateKey, Result, der, key::public_der, pem};

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// Signs tokens with one key and verifies them with that and older ones.
pub struct TokenKeys {
    signer: EcdsaKeyPair,
    /// The signer's public key first.
    known: Vec<Public>,
}

struct Public {
    kid: String,
    /// Uncompressed: 4, x, y.
    point: Vec<u8>,
}

impl Public {
    fn new(point: &[u8]) -> Self {
        let spki = public_der(point);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &spki));
        Self { kid, point: point.to_owned() }
    }
}

impl TokenKeys {
    /// Signs with `key`.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn new(key: &PrivateKey) -> Result<Self> {
        Ok(Self { signer: key.fixed()?, known: vec![Public::new(key.public_point())] })
    }

    /// Accepts tokens of further keys too: PEM `PUBLIC KEY` blocks on P-256.
    ///
    /// # Errors
    /// When a block is no such key.
    pub fn also_accept(&mut self, text: &str) -> Result<()> {
        const BAD: Error = Error::Malformed("public key");
        for block in pem::decode(text)?.iter().filter(|block| block.label == "PUBLIC KEY") {
            let mut fields = der::Reader::new(&block.der).expect(der::SEQUENCE)?.inside();
            fields.expect(der::SEQUENCE)?;
            let bits = fields.expect(der::BIT_STRING)?.value;
            let point = bits.strip_prefix(&[0]).filter(|point| point.len() == 65).ok_or(BAD)?;
            self.known.push(Public::new(point));
        }
        Ok(())
    }

    /// The id of the signing key: the hash of its SubjectPublicKeyInfo, as upstream names keys.
    pub fn key_id(&self) -> &str {
        &self.known[0].kid
    }

    /// Signs `claims` into a compact token.
    ///
    /// # Errors
    /// When they do not serialize or signing fails.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let header = Header { alg: "ES256".to_owned(), kid: self.key_id().to_owned() };
        let json =
            |bytes: serde_json::Result<Vec<u8>>| bytes.map_err(|_| Error::Malformed("claims"));
        let mut token = URL_SAFE_NO_PAD.encode(json(serde_json::to_vec(&header))?);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(json(serde_json::to_vec(claims))?, &mut token);
        let signature = self
            .signer
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|_| Error::Crypto("signing"))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Checks the signature and reads the claims. Their meaning (expiry, audience) is the caller's.
    ///
    /// # Errors
    /// When it is no token or none of our keys signed it.
    pub fn verify<T: DeserializeOwned>(&self, token: &str) -> Result<T> {
        const BAD: Error = Error::Malformed("token");
        let (message, signature) = token.rsplit_once('.').ok_or(BAD)?;
        let (header, claims) = message.split_once('.').ok_or(BAD)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| BAD);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| BAD)?;
        let signature = decode(signature)?;
        let signed = header.alg == "ES256"
            && self.known.iter().filter(|key| header.kid.is_empty() || header.kid == key.kid).any(
                |key| {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point)
                        .verify(message.as_bytes(), &signature)
                        .is_ok()
                },
            );
        if !signed {
            return Err(Error::Untrusted("invalid signature".into()));
        }
        serde_json::from_slice(&decode(claims)?).map_err(|_| BAD)
    }

    /// The JSON Web Key Set served at `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let key = |key: &Public| {
            json!({
                "use": "sig", "kty": "EC", "kid": key.kid, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(&key.point[1..33]),
                "y": URL_SAFE_NO_PAD.encode(&key.point[33..]),
            })
        };
        json!({ "keys": self.known.iter().map(key).collect::<Vec<_>>() })
    }

    /// The document served at `/.well-known/openid-configuration`.
    pub fn discovery(&self, issuer: &str, jwks_uri: &str) -> Value {
        json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

/// Reads the claims of a token without any check: only to see whose it is.
pub fn peek<T: DeserializeOwned>(token: &str) -> Option<T> {
    let claims = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_verify_with_their_key_alone() {
        let key = PrivateKey::generate().unwrap();
        let keys = TokenKeys::new(&key).unwrap();
        let token = keys.sign(&json!({"sub": "a"})).unwrap();
        assert_eq!(keys.verify::<Value>(&token).unwrap()["sub"], "a");
        assert_eq!(peek::<Value>(&token).unwrap()["sub"], "a");

        let other = PrivateKey::generate().unwrap();
        let mut others = TokenKeys::new(&other).unwrap();
        assert!(others.verify::<Value>(&token).is_err());
        others.also_accept(&pem::encode("PUBLIC KEY", &key.public_der())).unwrap();
        assert!(others.verify::<Value>(&token).is_ok(), "a rotated key is still accepted");
        assert_eq!(others.jwks()["keys"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn tampered_and_unsigned_tokens_are_refused() {
        let keys = TokenKeys::new(&PrivateKey::generate().unwrap()).unwrap();
        let token = keys.sign(&json!({"sub": "a"})).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"sub":"b"}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for bad in [
            format!("{}.{forged}.{}", parts[0], parts[2]),
            format!("{none}.{}.", parts[1]),
            "a.b.c".into(),
            String::new(),
        ] {
            assert!(keys.verify::<Value>(&bad).is_err(), "{bad}");
        }
    }
}
