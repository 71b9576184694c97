//! Sets, maps and verdict maps, and their elements.

use std::time::Duration;

use super::batch::{Batch, comment};
use super::datatype::Type;
use super::expression::{Verdict, write_verdict};
use super::uapi::{
    DATA_VALUE, ELEMENT_DATA, ELEMENT_EXPIRATION, ELEMENT_FLAGS, ELEMENT_INTERVAL_END, ELEMENT_KEY,
    ELEMENT_KEY_END, ELEMENT_TIMEOUT, ELEMENT_USERDATA, ELEMENTS_LIST, ELEMENTS_SET,
    ELEMENTS_SET_ID, LIST_ELEMENT, TABLE,
};
use crate::message::Message;

/// A list of elements is begun anew past this length. One attribute holds 64 KiB at most; the
/// longest element (two keys, data, comment) is far below the rest.
const LIST_LIMIT: usize = 60 * 1024;

/// What a set maps its keys to.
#[derive(Debug, Clone, Copy, Default)]
pub enum SetData<'a> {
    /// Nothing: a plain set.
    #[default]
    None,
    /// Values of this type: a map.
    Value(&'a [Type]),
    /// Verdicts: a verdict map.
    Verdict,
}

/// Properties of a set, to be combined with `|`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetFlags(pub(super) u32);

impl SetFlags {
    /// Plain keys, exact matches.
    pub const NONE: Self = Self(0);
    /// Cannot be changed once it is bound to a rule.
    pub const CONSTANT: Self = Self(0x2);
    /// Keys are ranges. Of concatenations each field is one.
    pub const INTERVAL: Self = Self(0x4);
    /// Elements have timeouts.
    pub const TIMEOUT: Self = Self(0x10);
    /// Rules add and remove elements.
    pub const DYNAMIC: Self = Self(0x20);

    pub(super) const ANONYMOUS: Self = Self(0x1);
    pub(super) const MAP: Self = Self(0x8);
    pub(super) const CONCATENATION: Self = Self(0x80);

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for SetFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A set, map or verdict map to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct Set<'a> {
    /// The name, unique within the table; ignored for anonymous sets.
    pub name: &'a str,
    /// The fields of a key: one, or a concatenation.
    pub key: &'a [Type],
    /// What keys are mapped to.
    pub data: SetData<'a>,
    /// Properties.
    pub flags: SetFlags,
    /// The most elements it can have; required of dynamic sets.
    pub size: Option<u32>,
    /// How often expired elements are cleared away; one second if absent.
    pub gc_interval: Option<Duration>,
    /// A text for people.
    pub comment: &'a str,
}

/// How rules and elements refer to a set: by name, or within its batch if it has none.
#[derive(Debug, Clone, Copy)]
pub struct SetId<'a> {
    pub(super) name: &'a str,
    pub(super) id: Option<u32>,
}

impl<'a> From<&'a str> for SetId<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, id: None }
    }
}

/// An element of a set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Element<'a> {
    /// The key, or where a range begins.
    pub key: &'a [u8],
    /// Where a range of a concatenated interval set ends, inclusive.
    pub key_end: Option<&'a [u8]>,
    /// In an interval set of a single field: whether this is the first key past a range.
    pub interval_end: bool,
    /// What a map has for the key.
    pub data: Option<&'a [u8]>,
    /// What a verdict map has for the key.
    pub verdict: Option<Verdict<'a>>,
    /// How long it stays, in a set with timeouts.
    pub timeout: Option<Duration>,
    /// How much of that is left.
    pub expiration: Option<Duration>,
    /// A text for people, or empty.
    pub comment: &'a str,
}

impl<'a> Element<'a> {
    /// An element of a plain set, or one to be deleted.
    pub fn key(key: &'a [u8]) -> Self {
        Self { key, ..Self::default() }
    }

    /// An element of a map.
    pub fn data(key: &'a [u8], data: &'a [u8]) -> Self {
        Self { key, data: Some(data), ..Self::default() }
    }

    /// An element of a verdict map.
    pub fn verdict(key: &'a [u8], verdict: Verdict<'a>) -> Self {
        Self { key, verdict: Some(verdict), ..Self::default() }
    }

    fn write(&self, m: &mut Message) {
        m.nest(ELEMENT_KEY, |m| m.put(DATA_VALUE, self.key));
        if let Some(end) = self.key_end {
            m.nest(ELEMENT_KEY_END, |m| m.put(DATA_VALUE, end));
        }
        if self.interval_end {
            m.put_be32(ELEMENT_FLAGS, ELEMENT_INTERVAL_END);
        }
        if let Some(data) = self.data {
            m.nest(ELEMENT_DATA, |m| m.put(DATA_VALUE, data));
        }
        if let Some(verdict) = self.verdict {
            m.nest(ELEMENT_DATA, |m| write_verdict(m, verdict));
        }
        if let Some(timeout) = self.timeout {
            m.put_be64(ELEMENT_TIMEOUT, timeout.as_millis() as u64);
        }
        if let Some(left) = self.expiration {
            m.put_be64(ELEMENT_EXPIRATION, left.as_millis() as u64);
        }
        if !self.comment.is_empty() {
            m.put(ELEMENT_USERDATA, &comment(0, self.comment));
        }
    }
}

/// Writes elements of one set into a batch, split over as many messages as they take.
pub struct ElementWriter<'b, 's> {
    batch: &'b mut Batch,
    set: SetId<'s>,
    kind: u16,
    flags: u16,
    /// Where the open message and its list begin.
    open: Option<(usize, usize)>,
}

impl<'b, 's> ElementWriter<'b, 's> {
    pub(super) fn new(batch: &'b mut Batch, set: SetId<'s>, kind: u16, flags: u16) -> Self {
        Self { batch, set, kind, flags, open: None }
    }

    /// Writes one element.
    pub fn push(&mut self, element: &Element<'_>) -> &mut Self {
        if self.open.is_some_and(|(_, list)| self.batch.message.len() - list > LIST_LIMIT) {
            self.close();
        }
        if self.open.is_none() {
            let start = self.batch.begin(self.kind, self.flags);
            let Batch { message: m, table, .. } = &mut *self.batch;
            m.put_str(TABLE, table);
            m.put_str(ELEMENTS_SET, self.set.name);
            if let Some(id) = self.set.id {
                m.put_be32(ELEMENTS_SET_ID, id);
            }
            self.open = Some((start, m.begin_nest(ELEMENTS_LIST)));
        }
        self.batch.message.nest(LIST_ELEMENT, |m| element.write(m));
        self
    }

    fn close(&mut self) {
        if let Some((start, list)) = self.open.take() {
            self.batch.message.end_nest(list);
            self.batch.message.end(start);
        }
    }
}

impl Drop for ElementWriter<'_, '_> {
    fn drop(&mut self) {
        self.close();
    }
}
