//! Certificate signing requests (PKCS #10): reading, checking and making them.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::{
    AltNames, Error, PrivateKey, Result, Subject,
    authority::{encode_alt_names, encode_name, extension},
    certificate::{extensions, oid, parse_subject},
    der::{self, Reader, bit_string, sequence, tlv},
    pem,
};

/// What a request asks for. Its signature has been checked: the sender holds the key.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    /// Whom the certificate shall name.
    pub subject: Subject,
    /// Further names asked for.
    pub names: AltNames,
    /// The key, as SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

impl SigningRequest {
    /// Reads a PEM `CERTIFICATE REQUEST`.
    ///
    /// # Errors
    /// When it does not parse or its signature is not by its own key.
    pub fn from_pem(text: &str) -> Result<Self> {
        let block = pem::decode(text)?
            .into_iter()
            .find(|block| {
                matches!(&*block.label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST")
            })
            .ok_or(Error::Malformed("certificate request"))?;
        Self::parse(&block.der)
    }

    /// Reads DER.
    ///
    /// # Errors
    /// When it does not parse or its signature is not by its own key.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut outer = Reader::new(bytes).expect(der::SEQUENCE)?.inside();
        let info = outer.expect(der::SEQUENCE)?;
        let algorithm = outer.expect(der::SEQUENCE)?.inside().expect(der::OID)?.value;
        let signature = bits(outer.expect(der::BIT_STRING)?.value)?;
        let mut fields = info.inside();
        fields.expect(der::INTEGER)?;
        let subject = parse_subject(fields.expect(der::SEQUENCE)?.inside())?;
        let public_key = fields.expect(der::SEQUENCE)?.whole;
        let names = match fields.optional(der::explicit(0))? {
            Some(attributes) => requested_names(attributes.inside())?,
            None => AltNames::default(),
        };
        check(public_key, algorithm, info.whole, signature)?;
        Ok(Self { subject, names, public_key: public_key.to_owned() })
    }

    /// Makes a request for `key`, in PEM.
    ///
    /// # Errors
    /// When signing fails.
    pub fn create(subject: &Subject, names: &AltNames, key: &PrivateKey) -> Result<String> {
        let mut attributes = Vec::new();
        if !names.is_empty() {
            let wanted = extension(oid::SUBJECT_ALT_NAME, false, &encode_alt_names(names));
            let wanted = tlv(der::SET, &[&sequence(&[&wanted])]);
            attributes = sequence(&[&tlv(der::OID, &[oid::EXTENSION_REQUEST]), &wanted]);
        }
        let info = sequence(&[
            &[der::INTEGER, 1, 0],
            &encode_name(subject),
            &key.public_der(),
            &tlv(der::explicit(0), &[&attributes]),
        ]);
        let algorithm = sequence(&[&tlv(der::OID, &[oid::ECDSA_SHA256])]);
        let signature = bit_string(&key.sign(&info)?);
        Ok(pem::encode("CERTIFICATE REQUEST", &sequence(&[&info, &algorithm, &signature])))
    }
}

fn requested_names(mut attributes: Reader<'_>) -> Result<AltNames> {
    let mut names = AltNames::default();
    while !attributes.is_empty() {
        let mut attribute = attributes.expect(der::SEQUENCE)?.inside();
        if attribute.expect(der::OID)?.value == oid::EXTENSION_REQUEST {
            let list = attribute.expect(der::SET)?.inside().expect(der::SEQUENCE)?;
            names = extensions(list.inside())?.names;
        }
    }
    Ok(names)
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
    let mut fields = Reader::new(spki).expect(der::SEQUENCE)?.inside();
    fields.expect(der::SEQUENCE)?;
    let key = bits(fields.expect(der::BIT_STRING)?.value)?;
    let verifier: &dyn VerificationAlgorithm = match (algorithm, key.len()) {
        // An uncompressed point has 65 bytes on P-256 and 97 on P-384.
        (oid::ECDSA_SHA256, 65) => &signature::ECDSA_P256_SHA256_ASN1,
        (oid::ECDSA_SHA384, 97) => &signature::ECDSA_P384_SHA384_ASN1,
        (oid::ECDSA_SHA256, 97) => &signature::ECDSA_P384_SHA256_ASN1,
        (oid::ECDSA_SHA384, 65) => &signature::ECDSA_P256_SHA384_ASN1,
        (oid::RSA_SHA256, _) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (oid::RSA_SHA384, _) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (oid::RSA_SHA512, _) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (oid::ED25519, _) => &signature::ED25519,
        _ => return Err(Error::Malformed("signature algorithm")),
    };
    UnparsedPublicKey::new(verifier, key)
        .verify(message, signature)
        .map_err(|_| Error::Untrusted("the signature is not by this key".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_and_a_forged_one_does_not() {
        let key = PrivateKey::generate().unwrap();
        let subject = Subject {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
        };
        let names = AltNames::new(["a", "10.0.0.1"]);
        let text = SigningRequest::create(&subject, &names, &key).unwrap();
        let read = SigningRequest::from_pem(&text).unwrap();
        assert_eq!((read.subject, read.names), (subject, names));
        assert_eq!(read.public_key, key.public_der());

        let mut der = pem::decode(&text).unwrap().remove(0).der;
        let at = der.windows(4).position(|w| w == b"node").unwrap();
        der[at] = b'm';
        assert!(matches!(SigningRequest::parse(&der), Err(Error::Untrusted(_))));
    }
}
