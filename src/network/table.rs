//! The one nf_tables table: loaded whole, changed in parts, loaded again when someone removed it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use netlink::nft::{Batch, Comparison, Expressions, Family, Nft, Reg, TableInfo};

use crate::cidr::Cidr;

/// The name of the table, of family `ip`.
pub const TABLE: &str = "knarr";

pub(crate) const R0: Reg = Reg::new(0);
pub(crate) const R1: Reg = Reg::new(1);
pub(crate) const R2: Reg = Reg::new(2);
pub(crate) const R3: Reg = Reg::new(3);

/// A part of the table: chains, sets and rules of one concern.
///
/// When the table is loaded, each section writes all that it has, into the same transaction. A
/// section that changes by itself in between commits batches of its own.
pub trait Section: Send + Sync {
    /// Writes the section as it is to be now, into an empty table.
    fn write(&self, batch: &mut Batch);
}

/// The table in the kernel.
pub(crate) struct Table {
    nft: Nft,
    sections: Vec<Arc<dyn Section>>,
    loaded: Option<TableInfo>,
}

/// An empty batch for the table.
pub(crate) fn batch() -> Batch {
    Batch::new(Family::Ip, TABLE)
}

impl Table {
    /// The table of the calling thread's network namespace, with the sections that it has beside
    /// what [`Self::load`] is given.
    pub(crate) fn open(sections: Vec<Arc<dyn Section>>) -> netlink::Result<Self> {
        Ok(Self { nft: Nft::open()?, sections, loaded: None })
    }

    /// Replaces the table, or makes it, in one transaction: packets see the old one or the new.
    pub(crate) fn load(&mut self, write: impl FnOnce(&mut Batch)) -> netlink::Result<()> {
        let mut batch = batch();
        // To delete what may not be there, it is added first.
        batch.add_table("");
        batch.delete_table();
        batch.add_table("pods and services, made and kept by knarr");
        for section in &self.sections {
            section.write(&mut batch);
        }
        write(&mut batch);
        self.loaded = None;
        self.nft.commit(batch)?;
        self.loaded = self.nft.table(Family::Ip, TABLE)?;
        Ok(())
    }

    /// Changes a part of the table.
    pub(crate) fn commit(&mut self, batch: Batch) -> netlink::Result<()> {
        self.nft.commit(batch)
    }

    /// Whether the table is the one that was loaded last: a table deleted and made again by
    /// someone else has another handle.
    pub(crate) fn is_intact(&mut self) -> netlink::Result<bool> {
        let there = self.nft.table(Family::Ip, TABLE)?.map(|t| t.handle);
        Ok(there.is_some() && there == self.loaded.map(|t| t.handle))
    }

    /// The elements of a set, or none if it is not there.
    pub(crate) fn elements(&mut self, set: &str) -> Vec<netlink::nft::ElementInfo> {
        self.nft.elements(Family::Ip, TABLE, set).unwrap_or_default()
    }
}

/// Goes on only if the address that is loaded into R0 is (or is not) within `cidr`.
pub(crate) fn within(e: &mut Expressions<'_>, how: Comparison, cidr: Cidr) {
    if cidr.prefix() < 32 {
        e.bitwise(R0, &cidr.mask().octets(), &Ipv4Addr::UNSPECIFIED.octets());
    }
    e.compare(R0, how, &cidr.first().octets());
}
