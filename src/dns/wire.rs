//! DNS messages as bytes: what has to be known of a message without decoding it, and the encoding
//! of answers into the room that a client offers.

use hickory_proto::op::{Edns, Message};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

/// The largest UDP payload that crosses every link unfragmented (DNS Flag Day 2020).
pub(crate) const MAX_UDP: u16 = 1232;
/// What a client without EDNS takes (RFC 1035, 4.2.1).
pub(crate) const MIN_UDP: u16 = 512;
pub(crate) const HEADER: usize = 12;

const FLAG_TC: u8 = 0x02;
const TYPE_SOA: u16 = 6;
const TYPE_OPT: u16 = 41;
/// An OPT record without options: root name, type, size, extended code and flags, no data.
const OPT_LEN: usize = 11;

/// Encodes a message into at most `limit` bytes. What does not fit is left out, the least important
/// first; the truncation bit is set only when an answer is missing.
pub(crate) fn encode(message: &mut Message, limit: u16) -> Option<Vec<u8>> {
    let bytes = encode_within(message, limit)?;
    if !is_truncated(&bytes) {
        return Some(bytes);
    }
    // Additional records are a courtesy: leaving them out is no truncation (RFC 2181, 9).
    message.additionals.clear();
    let bytes = encode_within(message, limit)?;
    if !is_truncated(&bytes) {
        return Some(bytes);
    }
    // As many answers as fit, for clients that cannot ask over TCP; the OPT record last.
    let Some(edns) = message.edns.take() else { return Some(bytes) };
    let room = limit.saturating_sub(OPT_LEN as u16);
    let mut bytes = encode_within(message, room)?;
    push_opt(&mut bytes, edns.flags().dnssec_ok);
    message.edns = Some(edns);
    Some(bytes)
}

fn encode_within(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::from(MIN_UDP));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    message.emit(&mut encoder).ok()?;
    // A record that did not fit has left its beginning behind.
    encoder.trim();
    Some(bytes)
}

/// The EDNS record of every answer to a client that sent one.
pub(crate) fn edns(dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP).set_version(0).set_dnssec_ok(dnssec_ok);
    edns
}

/// Appends an OPT record and counts it.
pub(crate) fn push_opt(bytes: &mut Vec<u8>, dnssec_ok: bool) {
    let [high, low] = MAX_UDP.to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    bytes.extend_from_slice(&[0, 0, TYPE_OPT as u8, high, low, 0, 0, flags, 0, 0, 0]);
    let additionals = u16_at(bytes, 10).unwrap_or_default() + 1;
    bytes[10..12].copy_from_slice(&additionals.to_be_bytes());
}

pub(crate) fn is_truncated(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & FLAG_TC != 0)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Where the only question of a message ends; its name must be written out.
pub(crate) fn question_end(bytes: &[u8]) -> Option<usize> {
    if u16_at(bytes, 4)? != 1 {
        return None;
    }
    let mut at = HEADER;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => break,
            length if length < 64 => at += 1 + length,
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= bytes.len()).then_some(end)
}

/// Drops everything after the question and sets the truncation bit.
pub(crate) fn truncate(bytes: &mut Vec<u8>) {
    let Some(end) = question_end(bytes) else { return };
    bytes.truncate(end);
    bytes[2] |= FLAG_TC;
    bytes[6..HEADER].fill(0);
}

/// What a cache has to know of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Seconds that the response may be kept.
    pub(crate) ttl: u32,
    /// Where the time-to-live fields are that age with it.
    pub(crate) offsets: Vec<u16>,
}

/// How long a response may be kept; `None` if not at all (RFC 2308 for negative answers).
pub(crate) fn lifetime(bytes: &[u8]) -> Option<Lifetime> {
    if is_truncated(bytes) {
        return None;
    }
    let code = bytes.get(3)? & 0x0f;
    let counts = [u16_at(bytes, 6)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?];
    let negative = match (code, counts[0]) {
        (0, 1..) => false,
        (0 | 3, _) => true,
        _ => return None,
    };
    let mut at = question_end(bytes)?;
    let mut offsets = Vec::new();
    let mut shortest: Option<u32> = None;
    let mut from_soa: Option<u32> = None;
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            at = skip_name(bytes, at)?;
            let kind = u16_at(bytes, at)?;
            let ttl = u32_at(bytes, at + 4)?;
            let end = at + 10 + usize::from(u16_at(bytes, at + 8)?);
            if end > bytes.len() {
                return None;
            }
            if kind != TYPE_OPT {
                offsets.push(u16::try_from(at + 4).ok()?);
                shortest = Some(shortest.map_or(ttl, |other| other.min(ttl)));
            }
            if section == 1 && kind == TYPE_SOA {
                from_soa = Some(ttl.min(u32_at(bytes, end.checked_sub(4)?)?));
            }
            at = end;
        }
    }
    let ttl = if negative { from_soa? } else { shortest? };
    Some(Lifetime { ttl, offsets })
}

/// Makes the records of a response older.
pub(crate) fn age(bytes: &mut [u8], offsets: &[u16], new: impl Fn(u32) -> u32) {
    for offset in offsets {
        let at = usize::from(*offset);
        if let Some(ttl) = u32_at(bytes, at) {
            bytes[at..at + 4].copy_from_slice(&new(ttl).to_be_bytes());
        }
    }
}

fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at + 1),
            length if length < 64 => at += 1 + length,
            length if length >= 192 => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn response(answers: usize) -> Message {
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(name("a.example."), RecordType::A));
        for n in 0..answers {
            let data = RData::A(A::new(10, 0, 0, n as u8));
            message.add_answer(Record::from_rdata(name("a.example."), 60 + n as u32, data));
        }
        message
    }

    #[test]
    fn everything_fits() {
        let mut message = response(3);
        let bytes = encode(&mut message, 512).unwrap();
        assert_eq!(Message::from_vec(&bytes).unwrap(), message);
    }

    #[test]
    fn additionals_go_first_and_without_the_bit() {
        let mut message = response(20);
        for n in 0..20 {
            let data = RData::A(A::new(10, 0, 0, n));
            message.add_additional(Record::from_rdata(name("b.example."), 60, data));
        }
        message.set_edns(edns(false));
        let bytes = encode(&mut message, 512).unwrap();
        let decoded = Message::from_vec(&bytes).unwrap();
        assert!(!decoded.truncation);
        assert_eq!((decoded.answers.len(), decoded.additionals.len()), (20, 0));
        assert!(decoded.edns.is_some());
    }

    #[test]
    fn as_many_answers_as_fit() {
        for with_edns in [false, true] {
            let mut message = response(100);
            if with_edns {
                message.set_edns(edns(true));
            }
            let bytes = encode(&mut message, 512).unwrap();
            assert!(bytes.len() <= 512);
            let decoded = Message::from_vec(&bytes).unwrap();
            assert!(decoded.truncation);
            assert!(decoded.answers.len() > 25, "{}", decoded.answers.len());
            assert_eq!(decoded.edns.is_some(), with_edns);
        }
    }

    #[test]
    fn lifetime_is_the_shortest() {
        let mut message = response(3);
        message.set_edns(edns(false));
        let mut bytes = message.to_vec().unwrap();
        let lifetime = lifetime(&bytes).unwrap();
        assert_eq!(lifetime.ttl, 60);
        assert_eq!(lifetime.offsets.len(), 3);
        age(&mut bytes, &lifetime.offsets, |ttl| ttl - 50);
        let decoded = Message::from_vec(&bytes).unwrap();
        let ttls: Vec<u32> = decoded.answers.iter().map(|record| record.ttl).collect();
        assert_eq!(ttls, [10, 11, 12]);
    }

    #[test]
    fn negative_lifetime_is_the_soa_minimum() {
        let mut message = response(0);
        message.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(lifetime(&message.to_vec().unwrap()), None);
        let soa = SOA::new(name("ns.example."), name("x.example."), 1, 2, 3, 4, 30);
        message.add_authority(Record::from_rdata(name("example."), 900, RData::SOA(soa)));
        assert_eq!(lifetime(&message.to_vec().unwrap()).unwrap().ttl, 30);
        message.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(lifetime(&message.to_vec().unwrap()), None);
    }

    #[test]
    fn damaged_messages_have_no_lifetime() {
        let bytes = response(3).to_vec().unwrap();
        for length in 0..bytes.len() {
            assert_eq!(lifetime(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn truncation_leaves_the_question() {
        let mut bytes = response(3).to_vec().unwrap();
        truncate(&mut bytes);
        push_opt(&mut bytes, false);
        let decoded = Message::from_vec(&bytes).unwrap();
        assert!(decoded.truncation && decoded.answers.is_empty() && decoded.edns.is_some());
        assert_eq!(decoded.queries.len(), 1);
    }
}
