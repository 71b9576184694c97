//! Certificate signing requests (PKCS #10): reading, checking and making them.

use crate::{
    AltNames, Error, PrivateKey, Result, Subject,
    authority::{encode_alt_names, encode_name, extension},
    certificate::{extensions, oid, parse_subject},
    der::{self, Reader, bit_string, sequence, tlv},
    pem, public,
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
        let (request, signature) = Self::read(bytes)?;
        signature.check(&request.public_key)?;
        Ok(request)
    }

    /// Reads DER and leaves the signature to be checked.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn read(bytes: &[u8]) -> Result<(Self, Signature<'_>)> {
        let mut all = Reader::new(bytes);
        let mut outer = all.expect(der::SEQUENCE)?.inside();
        if !all.is_empty() {
            return Err(Error::Malformed("certificate request"));
        }
        let info = outer.expect(der::SEQUENCE)?;
        let algorithm = outer.expect(der::SEQUENCE)?.inside().expect(der::OID)?.value;
        let bits = public::bits(outer.expect(der::BIT_STRING)?.value)?;
        let mut fields = info.inside();
        fields.expect(der::INTEGER)?;
        let subject = parse_subject(fields.expect(der::SEQUENCE)?.inside())?;
        let public_key = fields.expect(der::SEQUENCE)?.whole;
        let names = match fields.optional(der::explicit(0))? {
            Some(attributes) => requested_names(attributes.inside())?,
            None => AltNames::default(),
        };
        let request = Self { subject, names, public_key: public_key.to_owned() };
        Ok((request, Signature { message: info.whole, algorithm, bits }))
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

/// The signature of a request, not checked yet.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl Signature<'_> {
    /// Checks it by a key, which is a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// When it is by another key or its algorithm is not known.
    pub fn check(&self, key: &[u8]) -> Result<()> {
        public::check(key, self.algorithm, self.message, self.bits)
    }
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
