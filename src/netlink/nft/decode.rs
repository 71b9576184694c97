//! What is in the kernel: tables, chains of all owners, elements of a set.

use std::time::Duration;

use super::Family;
use super::batch::{Hook, Policy};
use super::connection::{GENERIC_LEN, Nft};
use super::uapi::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, DATA_VALUE, ELEMENT_DATA, ELEMENT_EXPIRATION,
    ELEMENT_KEY, ELEMENT_KEY_END, ELEMENT_TIMEOUT, ELEMENTS_LIST, ELEMENTS_SET, GETCHAIN,
    GETSETELEM, GETTABLE, HOOK_NUMBER, HOOK_PRIORITY, SUBSYSTEM, TABLE, TABLE_HANDLE, TABLE_USE,
};
use crate::error::Result;
use crate::message::{Attribute, Attributes, Message, NLM_F_DUMP, NLM_F_REQUEST};

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableInfo {
    /// A number that no other table of this boot has had.
    pub handle: u64,
    /// How many chains and sets it has.
    pub objects: u32,
}

/// Where a base chain is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookInfo {
    /// The hook's number; of the IP families that of [`Hook`].
    pub number: u32,
    /// Its place among all chains of the hook.
    pub priority: i32,
    /// What happens to packets that it has no verdict on.
    pub policy: Policy,
}

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// The table's family, see [`Family`].
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub name: String,
    /// "filter", "nat" or "route" of a base chain, else empty.
    pub kind: String,
    /// Where it is run, if it is a base chain.
    pub hook: Option<HookInfo>,
}

impl ChainInfo {
    /// Whether it drops what it does not know at this hook of the IP families. Such a chain of
    /// someone else's (a firewall, another container engine) can keep traffic from pods.
    pub fn drops_at(&self, hook: Hook) -> bool {
        let ip = [Family::Inet as u8, Family::Ip as u8, Family::Ip6 as u8].contains(&self.family);
        let there = self.hook.is_some_and(|h| h.number == hook as u32 && h.policy == Policy::Drop);
        ip && there
    }
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementInfo {
    /// The key, or where a range begins.
    pub key: Vec<u8>,
    /// Where a range of a concatenated interval set ends.
    pub key_end: Option<Vec<u8>>,
    /// What a map has for the key; empty in sets and verdict maps.
    pub data: Vec<u8>,
    /// How long it stays in all.
    pub timeout: Option<Duration>,
    /// How much of that is left.
    pub expiration: Option<Duration>,
}

/// Writes the header of a request that reads.
pub(super) fn begin(m: &mut Message, kind: u16, flags: u16, family: u8, sequence: u32) -> usize {
    let start = m.begin(SUBSYSTEM | kind, NLM_F_REQUEST | flags, sequence);
    m.raw(&[family, 0, 0, 0]);
    start
}

impl Nft {
    /// The table of this name, if it is there.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<TableInfo>> {
        let build = |m: &mut Message, sequence| {
            let start = begin(m, GETTABLE, 0, family as u8, sequence);
            m.put_str(TABLE, name);
            m.end(start);
        };
        let read = |payload: &[u8]| {
            let attributes = Attributes(payload.get(GENERIC_LEN..)?);
            Some(TableInfo {
                handle: attributes.get(TABLE_HANDLE)?.be64()?,
                objects: attributes.get(TABLE_USE)?.be32()?,
            })
        };
        match self.socket.get("look up nf_tables table", build, read) {
            Ok(table) => Ok(Some(table)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The chains of all tables of all families, other owners' too (iptables-nft included).
    pub fn chains(&mut self) -> Result<Vec<ChainInfo>> {
        const ALL_FAMILIES: u8 = 0;
        let build = |m: &mut Message, sequence| {
            let start = begin(m, GETCHAIN, NLM_F_DUMP, ALL_FAMILIES, sequence);
            m.end(start);
        };
        self.socket.dump("list nf_tables chains", build, read_chain)
    }

    /// The elements of a set or map. Refused with `ENOENT` if the table or set is not there.
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<ElementInfo>> {
        let build = |m: &mut Message, sequence| {
            let start = begin(m, GETSETELEM, NLM_F_DUMP, family as u8, sequence);
            m.put_str(TABLE, table);
            m.put_str(ELEMENTS_SET, set);
            m.end(start);
        };
        let read = |payload: &[u8]| {
            let list = Attributes(payload.get(GENERIC_LEN..)?).get(ELEMENTS_LIST);
            let elements = list.map(|l| l.nested().filter_map(read_element).collect());
            Some(elements.unwrap_or_default())
        };
        let messages: Vec<Vec<_>> = self.socket.dump("list nf_tables elements", build, read)?;
        Ok(messages.into_iter().flatten().collect())
    }
}

fn read_chain(payload: &[u8]) -> Option<ChainInfo> {
    let attributes = Attributes(payload.get(GENERIC_LEN..)?);
    let text = |kind| attributes.get(kind).and_then(|a| a.str()).map(str::to_owned);
    let number = |list: Attributes<'_>, kind| list.get(kind).and_then(|a| a.be32());
    let hook = attributes.get(CHAIN_HOOK).map(|h| h.nested());
    Some(ChainInfo {
        family: payload[0],
        table: text(TABLE)?,
        name: text(CHAIN_NAME)?,
        kind: text(CHAIN_TYPE).unwrap_or_default(),
        hook: hook.and_then(|hook| {
            Some(HookInfo {
                number: number(hook, HOOK_NUMBER)?,
                priority: number(hook, HOOK_PRIORITY)? as i32,
                policy: match number(attributes, CHAIN_POLICY) {
                    Some(0) => Policy::Drop,
                    _ => Policy::Accept,
                },
            })
        }),
    })
}

fn read_element(element: Attribute<'_>) -> Option<ElementInfo> {
    let attributes = element.nested();
    let value = |kind| attributes.get(kind).and_then(|a| a.nested().get(DATA_VALUE));
    let bytes = |kind| value(kind).map(|v| v.payload.to_vec());
    let time = |kind| attributes.get(kind).and_then(|a| a.be64()).map(Duration::from_millis);
    Some(ElementInfo {
        key: bytes(ELEMENT_KEY)?,
        key_end: bytes(ELEMENT_KEY_END),
        data: bytes(ELEMENT_DATA).unwrap_or_default(),
        timeout: time(ELEMENT_TIMEOUT),
        expiration: time(ELEMENT_EXPIRATION),
    })
}
