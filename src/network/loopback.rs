//! Addresses that this host holds on its loopback interface, such as the cluster DNS service's.
//!
//! A server has to bind the very address: one bound to all addresses answers UDP from another.

use std::net::{IpAddr, Ipv4Addr};

use netlink::rtnl::{Address, Requests, Rtnl, Scope};

use crate::mark::ADDRESS_LABEL;

/// The loopback interface's index, the same in every network namespace.
pub(crate) const INDEX: u32 = 1;

/// An address on the loopback interface. Its scope keeps the kernel from choosing it as the
/// source of packets of interfaces that have no address.
fn on_loopback(address: Ipv4Addr) -> Address {
    Address {
        link: INDEX,
        address: address.into(),
        prefix: 32,
        scope: Scope::Link,
        label: ADDRESS_LABEL.into(),
    }
}

/// Holds `address` on the loopback interface. Nothing changes if it is held already.
pub fn hold(address: Ipv4Addr) -> netlink::Result<()> {
    let mut requests = Requests::new();
    requests.add_address(&on_loopback(address));
    Rtnl::open()?.execute(&requests)
}

/// Lets go of `address`. Nothing changes if it is not held.
pub fn release(address: Ipv4Addr) -> netlink::Result<()> {
    let mut requests = Requests::new();
    requests.delete_address(&on_loopback(address));
    Rtnl::open()?.execute_tolerating(&requests, netlink::Error::is_not_found)
}

/// The addresses that are held.
pub fn held() -> netlink::Result<Vec<Ipv4Addr>> {
    let all = Rtnl::open()?.addresses()?;
    let ours = all.into_iter().filter(|a| a.label == ADDRESS_LABEL);
    Ok(ours.filter_map(|a| if let IpAddr::V4(v4) = a.address { Some(v4) } else { None }).collect())
}
