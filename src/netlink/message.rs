//! The wire form that all netlink families share: messages, and attributes inside them.
//!
//! Integers are in host byte order unless a method says otherwise; everything is aligned to
//! four bytes.

/// `struct nlmsghdr`.
pub(crate) const HEADER_LEN: usize = 16;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

/// One or more netlink messages under construction.
#[derive(Debug, Default, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// The bytes written so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Opens a message and returns where it begins, for [`Self::end`].
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, sequence: u32) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        start
    }

    /// Closes the message that begins at `start`.
    pub(crate) fn end(&mut self, start: usize) {
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends the family's fixed header, or a part of it.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn header(&mut self, attribute: u16, payload: usize) {
        debug_assert!(payload + 4 <= usize::from(u16::MAX), "attribute {attribute} is too long");
        self.bytes.extend_from_slice(&((payload + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&attribute.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute of plain bytes.
    pub(crate) fn put(&mut self, attribute: u16, payload: &[u8]) {
        self.header(attribute, payload.len());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    /// A string, with the terminating zero that the kernel wants.
    pub(crate) fn put_str(&mut self, attribute: u16, value: &str) {
        self.header(attribute, value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub(crate) fn put_u8(&mut self, attribute: u16, value: u8) {
        self.put(attribute, &[value]);
    }

    pub(crate) fn put_u32(&mut self, attribute: u16, value: u32) {
        self.put(attribute, &value.to_ne_bytes());
    }

    /// A 16-bit integer in network byte order.
    pub(crate) fn put_be16(&mut self, attribute: u16, value: u16) {
        self.put(attribute, &value.to_be_bytes());
    }

    /// A 32-bit integer in network byte order, as the netfilter families have them.
    pub(crate) fn put_be32(&mut self, attribute: u16, value: u32) {
        self.put(attribute, &value.to_be_bytes());
    }

    /// A 64-bit integer in network byte order, as the netfilter families have them.
    pub(crate) fn put_be64(&mut self, attribute: u16, value: u64) {
        self.put(attribute, &value.to_be_bytes());
    }

    /// Opens an attribute that holds attributes and returns where it begins, for
    /// [`Self::end_nest`].
    pub(crate) fn begin_nest(&mut self, attribute: u16) -> usize {
        let start = self.bytes.len();
        self.header(attribute | NLA_F_NESTED, 0);
        start
    }

    /// Closes the nest that begins at `start`. A nest holds at most 64 KiB; what writes lists of
    /// unlimited length splits them over messages.
    pub(crate) fn end_nest(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        assert!(length <= usize::from(u16::MAX), "a netlink attribute list passed 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    /// An attribute that holds the attributes that `fill` writes.
    pub(crate) fn nest(&mut self, attribute: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.begin_nest(attribute);
        fill(self);
        self.end_nest(start);
    }
}

/// The header of a received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
}

/// The messages in one datagram: header, and what follows it.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(datagram, 0)? as usize;
        let header = Header {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
        };
        let payload = datagram.get(HEADER_LEN..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}

/// A received attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// Its type within the list, without flag bits.
    pub kind: u16,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    pub(crate) fn u32(&self) -> Option<u32> {
        u32_at(self.payload, 0)
    }

    pub(crate) fn be16(&self) -> Option<u16> {
        u16_at(self.payload, 0).map(u16::from_be)
    }

    pub(crate) fn be32(&self) -> Option<u32> {
        self.u32().map(u32::from_be)
    }

    pub(crate) fn be64(&self) -> Option<u64> {
        self.payload.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)
    }

    /// The text up to the terminating zero.
    pub(crate) fn str(&self) -> Option<&'a str> {
        let end = self.payload.iter().position(|b| *b == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).ok()
    }

    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes(self.payload)
    }
}

/// A list of received attributes; it ends at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of this type.
    pub(crate) fn get(self, kind: u16) -> Option<Attribute<'a>> {
        let mut list = self;
        list.find(|a| a.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & NLA_TYPE_MASK;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_read_back() {
        let mut m = Message::default();
        for sequence in [7, 8] {
            let start = m.begin(0x14, NLM_F_REQUEST | NLM_F_ACK, sequence);
            m.raw(&[1, 2, 3, 4]);
            m.put_str(1, "eth0");
            m.put_be16(2, 0x1234);
            m.nest(3, |m| {
                m.put_u8(1, 9);
                m.put_be64(2, 1 << 40);
            });
            m.end(start);
        }
        assert_eq!(m.len() % 4, 0);
        let read: Vec<_> = messages(m.bytes()).collect();
        assert_eq!(read.len(), 2);
        let (header, payload) = read[1];
        assert_eq!((header.kind, header.flags, header.sequence), (0x14, 5, 8));
        assert_eq!(&payload[..4], [1, 2, 3, 4]);
        let list = Attributes(&payload[4..]);
        assert_eq!(list.get(1).unwrap().str(), Some("eth0"));
        assert_eq!(list.get(2).unwrap().be16(), Some(0x1234));
        let nested = list.get(3).unwrap().nested();
        assert_eq!(nested.get(1).unwrap().u8(), Some(9));
        assert_eq!(nested.get(2).unwrap().be64(), Some(1 << 40));
        assert!(list.get(4).is_none());
    }

    #[test]
    fn truncated_input_ends_the_list() {
        let mut m = Message::default();
        let start = m.begin(1, 0, 1);
        m.put_u32(1, 5);
        m.end(start);
        assert_eq!(messages(&m.bytes()[..m.len() - 1]).count(), 0);
        assert_eq!(Attributes(&m.bytes()[HEADER_LEN..m.len() - 1]).count(), 0);
        // A length shorter than its own header must not loop or panic.
        assert_eq!(Attributes(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(messages(&[0; 16]).count(), 0);
    }

    #[test]
    #[should_panic(expected = "64 KiB")]
    fn a_nest_cannot_pass_64_kib() {
        let mut m = Message::default();
        m.nest(1, |m| (0..2000).for_each(|_| m.put(2, &[0; 40])));
    }
}
