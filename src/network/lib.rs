//! The pod network, its addresses and the service proxy of a node.
//!
//! Pods are routed, not bridged: each has a veth pair, a /32 route on the host and its default
//! gateway at the other end, so that all traffic of pods passes the host's hooks. The proxy and
//! masquerading live in one nf_tables table, [`TABLE`]; no other table is ever touched. All that
//! is made here can be told from what is not (see [`mark`]), and [`cleanup`] removes it.

mod cidr;
mod cleanup;
pub mod firewall;
pub mod host;
pub mod hostports;
pub mod ipam;
pub mod loopback;
pub mod mark;
mod masquerade;
pub mod pod;
mod pods;
pub mod proxy;
mod table;

pub use cidr::{Cidr, ParseCidrError};
pub use cleanup::cleanup;
pub use pods::{Pod, PodNetwork, PodNetworkError};
pub use table::{Section, TABLE};
