//! nf_tables, the kernel's packet filter and address translator, by its own netlink interface.
//!
//! Changes are written into a [`Batch`], which [`Nft::commit`] carries out as a whole or not at
//! all; packets see all of it or none of it. [`Nft`] also reads tables, chains and elements back.

mod batch;
mod connection;
mod datatype;
mod decode;
mod expression;
mod rules;
mod set;
mod uapi;

pub use batch::{BaseChain, Batch, ChainKind, Hook, Policy};
pub use connection::Nft;
pub use datatype::{Key, Type};
pub use decode::{ChainInfo, ElementInfo, HookInfo, TableInfo};
pub use expression::{
    Comparison, CtKey, Expressions, FibResult, MetaKey, PayloadBase, Reg, Reject, Selector, Verdict,
};
pub use rules::{Outcome, RuleInfo, Test};
pub use set::{Element, ElementWriter, Set, SetData, SetFlags, SetId};

/// The protocol family that a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6 together.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// ARP.
    Arp = 3,
    /// A network device, before routing.
    Netdev = 5,
    /// Bridges.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}
