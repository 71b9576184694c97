//! The protobuf wire format: tags, varints and length-delimited values.

use super::ProtoError;

/// Reads the fields of one message.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

/// A field's value as it stands on the wire.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    /// The next field's number and value; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Item<'a>)>, ProtoError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtoError::Overflow)?;
        let item = match tag & 7 {
            0 => Item::Varint(self.varint()?),
            1 => Item::Fixed64(u64::from_le_bytes(*self.chunk()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| ProtoError::Truncated)?;
                Item::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Item::Fixed32
            }
            // Groups are obsolete, and nothing in Kubernetes has them.
            other => {
                return Err(ProtoError::WireType {
                    field: number.to_string(),
                    wire_type: other as u8,
                });
            }
        };
        Ok(Some((number, item)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0;
        for (i, byte) in self.bytes.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if i == 9 && *byte > 1 {
                    return Err(ProtoError::Overflow);
                }
                self.bytes = &self.bytes[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.bytes.len() < 10 { ProtoError::Truncated } else { ProtoError::Overflow })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ProtoError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(ProtoError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], ProtoError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(ProtoError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }
}

impl<'a> Item<'a> {
    pub(super) fn bytes(self, field: &str) -> Result<&'a [u8], ProtoError> {
        match self {
            Item::Bytes(bytes) => Ok(bytes),
            other => Err(other.misfit(field)),
        }
    }

    pub(super) fn text(self, field: &str) -> Result<&'a str, ProtoError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|error| ProtoError::Value {
            field: field.to_owned(),
            message: error.to_string(),
        })
    }

    pub(super) fn varint(self, field: &str) -> Result<u64, ProtoError> {
        match self {
            Item::Varint(value) => Ok(value),
            other => Err(other.misfit(field)),
        }
    }

    pub(super) fn misfit(self, field: &str) -> ProtoError {
        let wire_type = match self {
            Item::Varint(_) => 0,
            Item::Fixed64(_) => 1,
            Item::Bytes(_) => 2,
            Item::Fixed32 => 5,
        };
        ProtoError::WireType { field: field.to_owned(), wire_type }
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A varint field.
pub(crate) fn varint(out: &mut Vec<u8>, number: u16, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// A field of eight bytes.
pub(crate) fn fixed64(out: &mut Vec<u8>, number: u16, value: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A length-delimited field.
pub(crate) fn bytes(out: &mut Vec<u8>, number: u16, value: &[u8]) {
    length(out, number, value.len());
    out.extend_from_slice(value);
}

/// What is in front of a length-delimited field of `length` bytes.
pub(super) fn length(out: &mut Vec<u8>, number: u16, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// A length-delimited field whose value `write` appends. Most are shorter than 128 bytes, for
/// which the one byte of their length is set aside; longer ones are moved up.
pub(crate) fn message<R>(
    out: &mut Vec<u8>,
    number: u16,
    write: impl FnOnce(&mut Vec<u8>) -> R,
) -> R {
    put_varint(out, u64::from(number) << 3 | 2);
    let at = out.len();
    out.push(0);
    let result = write(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(&mut prefix, len as u64);
        out.splice(at..=at, prefix);
    }
    result
}
