//! Types of keys and data, and their bytes.
//!
//! To the kernel both are plain bytes. The type numbers are those of the `nft` tool, stored with
//! a set so that the tool can list it.

use std::borrow::Borrow;
use std::fmt;
use std::net::Ipv4Addr;

/// The type of a key, of data, or of one field of a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// An IPv4 address.
    Ipv4 = 7,
    /// An IPv6 address.
    Ipv6 = 8,
    /// An IP protocol number.
    Protocol = 12,
    /// A port.
    Port = 13,
    /// A 32-bit integer in host byte order, shown in hexadecimal.
    Mark = 19,
    /// An interface name, filled with zeros to 16 bytes.
    InterfaceName = 41,
}

impl Type {
    /// Its length in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 | Self::InterfaceName => 16,
        }
    }

    /// The registers it fills, in bytes: what it takes within a concatenation.
    const fn padded(self) -> usize {
        self.size().next_multiple_of(4)
    }

    const fn host_order(self) -> bool {
        matches!(self, Self::Mark | Self::InterfaceName)
    }
}

/// The type number of a concatenation of `fields` (or of the only one).
pub(super) fn type_number(fields: &[Type]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | *field as u32)
}

/// The length in bytes of a concatenation of `fields` (or of the only one).
pub(super) fn length(fields: &[Type]) -> usize {
    match fields {
        [only] => only.size(),
        many => many.iter().map(|f| f.padded()).sum(),
    }
}

/// What the `nft` tool notes as byte order of `fields`; it has a word for single ones only.
pub(super) fn byte_order(fields: &[Type]) -> u32 {
    const INVALID: u32 = 0;
    const HOST: u32 = 1;
    const NETWORK: u32 = 2;
    match fields {
        [only] if only.host_order() => HOST,
        [_] => NETWORK,
        _ => INVALID,
    }
}

/// The bytes of a key or of data, written field by field.
///
/// Each field is filled with zeros to four bytes, as concatenations need it. A key of one short
/// field (a protocol or port alone) has its plain length, see [`Key::single`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    // The order of the fields makes keys of one shape compare like their bytes.
    bytes: [u8; Key::CAPACITY],
    length: u8,
}

impl Key {
    /// The longest concatenation that is needed: two IPv6 addresses.
    const CAPACITY: usize = 32;

    /// No fields yet.
    pub const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], length: 0 }
    }

    fn field(mut self, field: &[u8]) -> Self {
        let at = usize::from(self.length);
        self.bytes[at..at + field.len()].copy_from_slice(field);
        self.length = (at + field.len()).next_multiple_of(4) as u8;
        self
    }

    /// Appends an IPv4 address.
    pub fn ipv4(self, address: Ipv4Addr) -> Self {
        self.field(&address.octets())
    }

    /// Appends an IP protocol number.
    pub fn protocol(self, number: u8) -> Self {
        self.field(&[number])
    }

    /// Appends a port.
    pub fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Appends a [`Type::Mark`].
    pub fn mark(self, value: u32) -> Self {
        self.field(&value.to_ne_bytes())
    }

    /// Appends bytes as they are, filled to a multiple of four.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.field(bytes)
    }

    /// The key of a set with a single field of `length` bytes.
    pub fn single(mut self, length: usize) -> Self {
        self.length = length as u8;
        self
    }

    /// The bytes written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(self.as_bytes()))
    }
}

/// Bytes of unknown type, for error messages.
pub(super) fn describe(bytes: &[u8]) -> String {
    let words = bytes.chunks(4).map(|word| word.iter().map(|b| format!("{b:02x}")).collect());
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenations_pad_each_field() {
        let key = Key::new().ipv4([10, 43, 0, 1].into()).protocol(6).port(80).mark(3);
        let mut expected = vec![10, 43, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0];
        expected.extend(3u32.to_ne_bytes());
        assert_eq!(key.as_bytes(), expected);
        assert_eq!(length(&[Type::Ipv4, Type::Protocol, Type::Port, Type::Mark]), 16);
        assert_eq!(type_number(&[Type::Ipv4, Type::Protocol, Type::Port]), 7 << 12 | 12 << 6 | 13);
    }

    #[test]
    fn a_single_field_has_its_own_length() {
        assert_eq!(length(&[Type::Port]), 2);
        assert_eq!(Key::new().port(80).single(2).as_bytes(), [0, 80]);
        assert_eq!((byte_order(&[Type::Mark]), byte_order(&[Type::Port])), (1, 2));
        assert_eq!(byte_order(&[Type::Ipv4, Type::Mark]), 0);
    }
}
