//! The part of ASN.1 DER that X.509 and PKCS #10 need: tag-length-value, written inside out and
//! read front to back.

use crate::{Error, Result};

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const TELETEX_STRING: u8 = 0x14;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// A context-specific tag: `[n]`, primitive.
pub(crate) const fn context(n: u8) -> u8 {
    0x80 | n
}

/// A context-specific tag around further values: `[n]`, constructed.
pub(crate) const fn explicit(n: u8) -> u8 {
    0xa0 | n
}

/// One value: tag, length, contents.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let skip = bytes.iter().take_while(|byte| **byte == 0).count();
            out.push(0x80 | (bytes.len() - skip) as u8);
            out.extend_from_slice(&bytes[skip..]);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A sequence of encoded values.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// A positive integer from big-endian bytes.
pub(crate) fn positive_integer(bytes: &[u8]) -> Vec<u8> {
    let skip =
        bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len().saturating_sub(1));
    let bytes = &bytes[skip..];
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => tlv(INTEGER, &[&[0], bytes]),
        Some(_) => tlv(INTEGER, &[bytes]),
        None => tlv(INTEGER, &[&[0]]),
    }
}

/// A bit string without unused bits.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], bytes])
}

/// Reads values one after another.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// One value as read.
#[derive(Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    /// Contents.
    pub(crate) value: &'a [u8],
    /// Tag, length and contents: what signatures are over.
    pub(crate) whole: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// Reads the values inside.
    pub(crate) fn inside(&self) -> Reader<'a> {
        Reader::new(self.value)
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next value.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next value, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Tlv<'a>> {
        const BAD: Error = Error::Malformed("DER");
        let [tag, first, ..] = *self.rest else { return Err(BAD) };
        let (length, header) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            // Four bytes of length hold more than any certificate; zero means BER's indefinite form.
            let digits =
                self.rest.get(2..2 + count).filter(|_| (1..=4).contains(&count)).ok_or(BAD)?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), 2 + count)
        };
        let end = header.checked_add(length).ok_or(BAD)?;
        let whole = self.rest.get(..end).ok_or(BAD)?;
        self.rest = &self.rest[end..];
        Ok(Tlv { tag, value: &whole[header..], whole })
    }

    /// The next value, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Tlv<'a>> {
        let tlv = self.any()?;
        if tlv.tag == tag { Ok(tlv) } else { Err(Error::Malformed("DER")) }
    }

    /// The next value if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Tlv<'a>>> {
        if self.peek() == Some(tag) { self.any().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_form_round_trip() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let bytes = tlv(OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&bytes);
            let read = reader.expect(OCTET_STRING).unwrap();
            assert_eq!(read.value, content);
            assert_eq!(read.whole, bytes);
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn truncated_and_indefinite_values_are_refused() {
        for bytes in
            [&[][..], &[0x30], &[0x30, 5, 1], &[0x30, 0x80, 0, 0], &[0x30, 0x85, 1, 1, 1, 1, 1]]
        {
            assert!(Reader::new(bytes).any().is_err());
        }
    }

    #[test]
    fn integers_stay_positive_and_minimal() {
        assert_eq!(positive_integer(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(positive_integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(positive_integer(&[0]), [2, 1, 0]);
    }
}
