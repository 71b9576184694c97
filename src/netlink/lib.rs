//! Links, addresses, routes, conntrack and nf_tables by netlink, without an async runtime.
//!
//! Every request is a system call that returns when the kernel has done the work, so there is
//! nothing to await. A socket belongs for good to the network namespace it was opened in
//! ([`Netns::run`] opens one elsewhere), and may then be used from any thread.
#![allow(
    unsafe_code,
    reason = "setns, unshare and socket options have no safe wrapper in std; each block says why it is sound"
)]

pub mod conntrack;
mod error;
pub mod iptables;
mod message;
mod netns;
pub mod nft;
pub mod rtnl;
mod socket;

pub use error::{Error, Result};
pub use message::{Attributes, Message};
pub use netns::Netns;

/// The error number of a request that needs a protocol that this kernel does not have, such as
/// IPv6 (`EAFNOSUPPORT`).
pub const AF_NOT_SUPPORTED: i32 = libc::EAFNOSUPPORT;
