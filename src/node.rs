//! Who this node is: its name in the cluster, and the address by which others reach it.

use std::net::IpAddr;

use netlink::rtnl::Rtnl;

use crate::config::ServerOptions;

/// The name of this node: given, or the host name in lower case, as names of objects must be.
pub(crate) fn name(options: &ServerOptions) -> String {
    options.node_name.clone().unwrap_or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_lowercase()
    })
}

/// The address of this node: given, or the source address of the default route, or loopback on a
/// machine without a network.
pub(crate) fn address(options: &ServerOptions) -> IpAddr {
    match options.node_ip {
        Some(given) => given.into(),
        None => default_address().unwrap_or(IpAddr::from([127, 0, 0, 1])),
    }
}

fn default_address() -> Option<IpAddr> {
    let mut rtnl = Rtnl::open().ok()?;
    let route = rtnl.default_route().ok()??;
    if let Some(source) = route.source {
        return Some(source);
    }
    let addresses = rtnl.addresses().ok()?;
    let own = addresses.iter().filter(|address| address.link == route.link);
    own.map(|address| address.address).find(IpAddr::is_ipv4)
}
