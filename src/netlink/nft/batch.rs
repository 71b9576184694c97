//! A transaction: changes to one table that take effect together or not at all.

use super::Family;
use super::datatype::{byte_order, length, type_number};
use super::expression::Expressions;
use super::set::{ElementWriter, Set, SetData, SetFlags, SetId};
use super::uapi::{
    BATCH_BEGIN, BATCH_END, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, DELCHAIN, DELRULE,
    DELSET, DELSETELEM, DELTABLE, ELEMENTS_SET, HOOK_NUMBER, HOOK_PRIORITY, LIST_ELEMENT, NEWCHAIN,
    NEWRULE, NEWSET, NEWSETELEM, NEWTABLE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA,
    SET_DATA_LEN, SET_DATA_TYPE, SET_DESC, SET_DESC_CONCAT, SET_DESC_SIZE, SET_FIELD_LEN,
    SET_FLAGS, SET_GC_INTERVAL, SET_ID, SET_KEY_LEN, SET_KEY_TYPE, SET_NAME, SET_USERDATA,
    SUBSYSTEM, TABLE, TABLE_FLAGS, TABLE_USERDATA, TYPE_VERDICT,
};
use crate::message::{Message, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};

/// The resource id of a batch that is for nf_tables.
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// Types of the tool's notes with a set.
const UDATA_SET_KEY_BYTE_ORDER: u8 = 0;
const UDATA_SET_DATA_BYTE_ORDER: u8 = 1;
const UDATA_SET_COMMENT: u8 = 7;

/// What a base chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each flow, and decides its translation.
    Nat,
    /// Sees every packet that leaves this host, and has it routed again if it is changed.
    Route,
}

/// Where in a packet's way through the kernel a base chain is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Before routing.
    Prerouting = 0,
    /// On the way to a process of this host.
    Input = 1,
    /// On the way through this host.
    Forward = 2,
    /// On the way out of a process of this host.
    Output = 3,
    /// After routing, just before it leaves.
    Postrouting = 4,
}

/// What happens to a packet that a base chain has no verdict on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Policy {
    /// It is dropped.
    Drop = 0,
    /// It passes.
    Accept = 1,
}

/// A chain that the kernel runs by itself.
#[derive(Debug, Clone, Copy)]
pub struct BaseChain<'a> {
    /// The name, unique within the table.
    pub name: &'a str,
    /// What it does.
    pub kind: ChainKind,
    /// Where it is run.
    pub hook: Hook,
    /// Its place among all chains of the hook, the lowest first.
    pub priority: i32,
    /// What happens to packets that it has no verdict on.
    pub policy: Policy,
}

/// Changes to one table, in order.
#[derive(Debug)]
pub struct Batch {
    pub(super) message: Message,
    pub(super) family: Family,
    pub(super) table: String,
    sequence: u32,
    sets: u32,
}

impl Batch {
    /// No changes yet to the table of this name.
    pub fn new(family: Family, table: impl Into<String>) -> Self {
        let message = Message::default();
        let mut batch = Self { message, family, table: table.into(), sequence: 0, sets: 0 };
        batch.bracket(BATCH_BEGIN);
        batch
    }

    /// How many requests it has.
    pub fn len(&self) -> usize {
        self.sequence as usize - 1
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.message.len()
    }

    fn bracket(&mut self, kind: u16) {
        self.sequence += 1;
        let start = self.message.begin(kind, NLM_F_REQUEST, self.sequence);
        self.message.raw(&[0, 0]);
        self.message.raw(&NFNL_SUBSYS_NFTABLES.to_be_bytes());
        self.message.end(start);
    }

    /// The finished transaction.
    pub(super) fn finish(&mut self) -> &[u8] {
        self.bracket(BATCH_END);
        self.message.bytes()
    }

    pub(super) fn begin(&mut self, kind: u16, flags: u16) -> usize {
        self.sequence += 1;
        let start = self.message.begin(SUBSYSTEM | kind, NLM_F_REQUEST | flags, self.sequence);
        self.message.raw(&[self.family as u8, 0, 0, 0]);
        start
    }

    fn request(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Message)) {
        let start = self.begin(kind, flags);
        self.message.put_str(TABLE, &self.table);
        fill(&mut self.message);
        self.message.end(start);
    }

    /// Makes the table unless it is there.
    pub fn add_table(&mut self, text: &str) {
        self.request(NEWTABLE, NLM_F_CREATE, |m| {
            m.put_be32(TABLE_FLAGS, 0);
            if !text.is_empty() {
                m.put(TABLE_USERDATA, &comment(0, text));
            }
        });
    }

    /// Deletes the table with everything in it. Refused with `ENOENT` if it is not there, so to
    /// begin anew, add it first.
    pub fn delete_table(&mut self) {
        self.request(DELTABLE, 0, |_| ());
    }

    /// Makes a chain unless it is there.
    pub fn add_chain(&mut self, name: &str) {
        self.request(NEWCHAIN, NLM_F_CREATE, |m| m.put_str(CHAIN_NAME, name));
    }

    /// Makes a base chain unless it is there.
    pub fn add_base_chain(&mut self, chain: &BaseChain<'_>) {
        self.request(NEWCHAIN, NLM_F_CREATE, |m| {
            m.put_str(CHAIN_NAME, chain.name);
            m.nest(CHAIN_HOOK, |m| {
                m.put_be32(HOOK_NUMBER, chain.hook as u32);
                m.put_be32(HOOK_PRIORITY, chain.priority as u32);
            });
            m.put_be32(CHAIN_POLICY, chain.policy as u32);
            m.put_str(
                CHAIN_TYPE,
                match chain.kind {
                    ChainKind::Filter => "filter",
                    ChainKind::Nat => "nat",
                    ChainKind::Route => "route",
                },
            );
        });
    }

    /// Deletes a chain and its rules. Refused with `EBUSY` while rules or elements refer to it.
    pub fn delete_chain(&mut self, name: &str) {
        self.flush_chain(name);
        self.request(DELCHAIN, 0, |m| m.put_str(CHAIN_NAME, name));
    }

    /// Deletes the rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        self.request(DELRULE, 0, |m| m.put_str(RULE_CHAIN, name));
    }

    /// Appends a rule to a chain.
    pub fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Expressions<'_>)) {
        self.commented_rule(chain, "", write);
    }

    /// Appends a rule that has a text for people.
    pub fn commented_rule(
        &mut self,
        chain: &str,
        text: &str,
        write: impl FnOnce(&mut Expressions<'_>),
    ) {
        self.request(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |m| {
            m.put_str(RULE_CHAIN, chain);
            m.nest(RULE_EXPRESSIONS, |m| write(&mut Expressions(m)));
            if !text.is_empty() {
                m.put(RULE_USERDATA, &comment(0, text));
            }
        });
    }

    /// Makes a set unless it is there.
    pub fn add_set(&mut self, set: &Set<'_>) {
        self.write_set(set.name, set, set.flags);
    }

    /// Makes a set that lives as long as the rule that refers to it. Its elements have to follow,
    /// and then the rule, in this batch.
    pub fn add_anonymous_set(&mut self, set: &Set<'_>) -> SetId<'static> {
        let name = if matches!(set.data, SetData::None) { "__set%d" } else { "__map%d" };
        let id = self.write_set(name, set, set.flags | SetFlags::ANONYMOUS | SetFlags::CONSTANT);
        SetId { name, id: Some(id) }
    }

    fn write_set(&mut self, name: &str, set: &Set<'_>, flags: SetFlags) -> u32 {
        self.sets += 1;
        let id = self.sets;
        let mut flags = flags;
        if !matches!(set.data, SetData::None) {
            flags = flags | SetFlags::MAP;
        }
        let ranges = flags.contains(SetFlags::INTERVAL) && set.key.len() > 1;
        if ranges {
            flags = flags | SetFlags::CONCATENATION;
        }
        self.request(NEWSET, NLM_F_CREATE, |m| {
            m.put_str(SET_NAME, name);
            m.put_be32(SET_FLAGS, flags.0);
            m.put_be32(SET_KEY_TYPE, type_number(set.key));
            m.put_be32(SET_KEY_LEN, length(set.key) as u32);
            match set.data {
                SetData::None => (),
                SetData::Verdict => m.put_be32(SET_DATA_TYPE, TYPE_VERDICT),
                SetData::Value(fields) => {
                    m.put_be32(SET_DATA_TYPE, type_number(fields));
                    m.put_be32(SET_DATA_LEN, length(fields) as u32);
                }
            }
            if set.size.is_some() || ranges {
                m.nest(SET_DESC, |m| {
                    if let Some(size) = set.size {
                        m.put_be32(SET_DESC_SIZE, size);
                    }
                    if ranges {
                        m.nest(SET_DESC_CONCAT, |m| {
                            for field in set.key {
                                let length = field.size() as u32;
                                m.nest(LIST_ELEMENT, |m| m.put_be32(SET_FIELD_LEN, length));
                            }
                        });
                    }
                });
            }
            m.put_be32(SET_ID, id);
            if let Some(interval) = set.gc_interval {
                m.put_be32(SET_GC_INTERVAL, interval.as_millis() as u32);
            }
            m.put(SET_USERDATA, &set_notes(set));
        });
        id
    }

    /// Deletes a set. Refused with `EBUSY` while rules refer to it.
    pub fn delete_set(&mut self, name: &str) {
        self.request(DELSET, 0, |m| m.put_str(SET_NAME, name));
    }

    /// Deletes all elements of a set.
    pub fn flush_set(&mut self, name: &str) {
        self.request(DELSETELEM, 0, |m| m.put_str(ELEMENTS_SET, name));
    }

    /// Adds elements to a set. One that is there already is left as it is, but refused with
    /// `EEXIST` if it has other data.
    pub fn add_elements<'s>(&mut self, set: impl Into<SetId<'s>>) -> ElementWriter<'_, 's> {
        ElementWriter::new(self, set.into(), NEWSETELEM, NLM_F_CREATE)
    }

    /// Deletes elements from a set, by their keys. One that is not there is refused with `ENOENT`.
    pub fn delete_elements<'s>(&mut self, set: impl Into<SetId<'s>>) -> ElementWriter<'_, 's> {
        ElementWriter::new(self, set.into(), DELSETELEM, 0)
    }
}

fn note(notes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    notes.extend([kind, value.len() as u8]);
    notes.extend_from_slice(value);
}

/// The tool's note of a comment, of the type that it has with this kind of object. A comment
/// holds at most 128 bytes.
pub(super) fn comment(kind: u8, text: &str) -> Vec<u8> {
    const LIMIT: usize = 127;
    let mut text = text;
    while text.len() > LIMIT {
        let mut shorter = text.chars();
        shorter.next_back();
        text = shorter.as_str();
    }
    let mut notes = Vec::with_capacity(text.len() + 3);
    note(&mut notes, kind, text.as_bytes());
    // The terminating zero belongs to the value.
    notes[1] += 1;
    notes.push(0);
    notes
}

/// The byte orders of a set's integers, without which the tool shows them swapped.
fn set_notes(set: &Set<'_>) -> Vec<u8> {
    let mut notes = Vec::with_capacity(16);
    note(&mut notes, UDATA_SET_KEY_BYTE_ORDER, &byte_order(set.key).to_ne_bytes());
    if let SetData::Value(fields) = set.data {
        note(&mut notes, UDATA_SET_DATA_BYTE_ORDER, &byte_order(fields).to_ne_bytes());
    }
    if !set.comment.is_empty() {
        notes.extend(comment(UDATA_SET_COMMENT, set.comment));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Attributes, messages};
    use crate::nft::{Element, Key, Type};

    #[test]
    fn long_element_lists_are_split() {
        let mut batch = Batch::new(Family::Ip, "t");
        {
            let mut writer = batch.add_elements("s");
            for n in 0..5000u32 {
                writer.push(&Element::key(Key::new().mark(n).as_bytes()));
            }
        }
        assert!(batch.len() > 1);
        let mut total = 0;
        for (header, payload) in messages(batch.message.bytes()) {
            if header.kind == SUBSYSTEM | NEWSETELEM {
                let list = Attributes(&payload[4..]).get(3).unwrap().nested();
                total += list.count();
            }
        }
        assert_eq!(total, 5000);
    }

    #[test]
    fn an_empty_batch_says_so() {
        let mut batch = Batch::new(Family::Ip, "t");
        assert!(batch.is_empty());
        drop(batch.add_elements("s"));
        assert!(batch.is_empty());
        batch.add_table("");
        assert_eq!(batch.len(), 1);
    }

    #[test]
    fn comments_end_in_a_zero_and_fit() {
        assert_eq!(comment(0, "ab"), [0, 3, b'a', b'b', 0]);
        let long = "ä".repeat(200);
        let notes = comment(7, &long);
        assert!(notes.len() <= 130 && notes[1] as usize == notes.len() - 2);
        assert!(std::str::from_utf8(&notes[2..notes.len() - 1]).is_ok());
    }

    #[test]
    fn sets_note_their_byte_orders() {
        let set = Set {
            key: &[Type::Mark],
            data: SetData::Value(&[Type::Ipv4, Type::Port]),
            ..Set::default()
        };
        let one = 1u32.to_ne_bytes();
        let expected = [&[0, 4][..], &one, &[1, 4], &[0; 4]].concat();
        assert_eq!(set_notes(&set), expected);
    }
}
