//! Answers of the upstream servers, kept as the bytes that came.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::wire;

/// Bytes that each of the two generations may hold.
const GENERATION_BYTES: usize = 512 * 1024;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 128;
/// No record is believed for longer.
const MAX_TTL: u32 = 3600;
/// For how long an outdated answer may stand in for silent servers (RFC 8767).
const STALE: Duration = Duration::from_secs(3600);
/// The time-to-live of an outdated answer (RFC 8767, 4).
const STALE_TTL: u32 = 30;

/// What distinguishes one answer from another: the lower-case question, and which flags it had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) question: Box<[u8]>,
    pub(crate) flags: u8,
}

#[derive(Debug)]
struct Entry {
    response: Box<[u8]>,
    offsets: Box<[u16]>,
    stored: Instant,
    ttl: u32,
}

/// A cache with two generations: what is asked for moves into the young one, and when that is full
/// the old one is forgotten. Bounded, with constant-time operations and nothing to sweep.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    young: HashMap<Key, Entry>,
    young_bytes: usize,
    old: HashMap<Key, Entry>,
}

impl Cache {
    /// An answer that is still valid, its records aged.
    pub(crate) fn fresh(&mut self, key: &Key, now: Instant) -> Option<Vec<u8>> {
        let entry = self.promote(key)?;
        let age = now.duration_since(entry.stored).as_secs();
        let age = u32::try_from(age).ok().filter(|age| *age < entry.ttl)?;
        Some(entry.aged(|ttl| ttl.saturating_sub(age)))
    }

    /// An answer that was valid not too long ago.
    pub(crate) fn stale(&mut self, key: &Key, now: Instant) -> Option<Vec<u8>> {
        let entry = self.promote(key)?;
        let limit = Duration::from_secs(entry.ttl.into()) + STALE;
        (now.duration_since(entry.stored) < limit).then(|| entry.aged(|_| STALE_TTL))
    }

    /// Keeps an answer, if its records allow it.
    pub(crate) fn insert(&mut self, key: Key, response: &[u8], now: Instant) {
        let Some(lifetime) = wire::lifetime(response).filter(|lifetime| lifetime.ttl > 0) else {
            return;
        };
        let entry = Entry {
            response: response.into(),
            offsets: lifetime.offsets.into(),
            stored: now,
            ttl: lifetime.ttl.min(MAX_TTL),
        };
        self.store(key, entry);
    }

    fn store(&mut self, key: Key, entry: Entry) {
        let size = entry.size(&key);
        if self.young_bytes + size > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += size;
        if let Some(replaced) = self.young.remove(&key) {
            self.young_bytes -= replaced.size(&key);
        }
        self.young.insert(key, entry);
    }

    fn promote(&mut self, key: &Key) -> Option<&Entry> {
        if !self.young.contains_key(key) {
            let (key, entry) = self.old.remove_entry(key)?;
            self.store(key, entry);
        }
        self.young.get(key)
    }
}

impl Entry {
    fn size(&self, key: &Key) -> usize {
        self.response.len() + 2 * self.offsets.len() + key.question.len() + OVERHEAD
    }

    fn aged(&self, new: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut response = self.response.to_vec();
        wire::age(&mut response, &self.offsets, new);
        response
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;

    fn key(n: u32) -> Key {
        Key { question: n.to_be_bytes().into(), flags: 0 }
    }

    fn response(ttl: u32) -> Vec<u8> {
        let name = Name::from_ascii("a.example.").unwrap();
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(name.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(10, 0, 0, 1))));
        message.to_vec().unwrap()
    }

    fn ttl(response: Option<Vec<u8>>) -> Option<u32> {
        Some(Message::from_vec(&response?).unwrap().answers[0].ttl)
    }

    #[test]
    fn ages_and_expires() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        cache.insert(key(1), &response(60), start);
        cache.insert(key(2), &response(0), start);
        assert_eq!(ttl(cache.fresh(&key(1), start)), Some(60));
        assert_eq!(ttl(cache.fresh(&key(1), after(59))), Some(1));
        assert_eq!(ttl(cache.fresh(&key(1), after(60))), None);
        assert_eq!(ttl(cache.stale(&key(1), after(60))), Some(STALE_TTL));
        assert_eq!(ttl(cache.stale(&key(1), after(3660))), None);
        assert_eq!(ttl(cache.fresh(&key(2), start)), None);
    }

    #[test]
    fn stays_small_and_keeps_what_is_used() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.insert(key(0), &response(60), now);
        for n in 1..100_000 {
            cache.insert(key(n), &response(60), now);
            assert!(cache.fresh(&key(0), now).is_some(), "{n}");
        }
        let size = |entries: &HashMap<Key, Entry>| -> usize {
            entries.iter().map(|(key, entry)| entry.size(key)).sum()
        };
        assert!(size(&cache.young) + size(&cache.old) <= 2 * GENERATION_BYTES);
    }
}
