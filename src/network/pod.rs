//! One pod's connection to its node: a veth pair and the routes at its two ends.
//!
//! The pod has a /32 address and one neighbour, the node, under a link-local address that every
//! pod's node has. The node has a /32 route to the pod. Both ends know the other's hardware
//! address from the start, so nobody ever asks for it. What the kernel has is all the state there
//! is: a restarted agent reads it back with [`attached`].

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use netlink::Netns;
use netlink::rtnl::{
    Address, InetConf, Link, LinkChange, Mac, Neighbour, Requests, Route, Rtnl, Scope, Veth,
    VethEnd, Via,
};

use crate::loopback;
use crate::mark::{HOST_MAC, INTERFACE_GROUP, INTERFACE_PREFIX, ROUTE_PROTOCOL};

/// The node as its pods see it. Any link-local address would do; no packet carries it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The longest text that the kernel keeps with an interface.
const ALIAS_LIMIT: usize = 255;

/// Settings of the host's end. A pod cannot send with another's address (strict `rp_filter`), on
/// which network policies rely.
const HOST_SETTINGS: &[(InetConf, u32)] = &[
    (InetConf::Forwarding, 1),
    (InetConf::RpFilter, 1),
    (InetConf::SendRedirects, 0),
    (InetConf::AcceptRedirects, 0),
];
const POD_SETTINGS: &[(InetConf, u32)] = &[(InetConf::AcceptRedirects, 0)];

/// Why a pod could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pod's network namespace could not be opened or entered.
    #[error("network namespace {path}: {source}")]
    Netns {
        /// The path that was given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("{place}: {source}")]
    Netlink {
        /// At which end.
        place: &'static str,
        /// Why.
        source: netlink::Error,
    },
    /// A kernel setting of the pod could not be written.
    #[error("setting {name}={value}: {source}")]
    Setting {
        /// The setting's name, such as `net.core.somaxconn`.
        name: String,
        /// The value that it was to have.
        value: String,
        /// Why not.
        source: io::Error,
    },
}

fn at(place: &'static str) -> impl Fn(netlink::Error) -> Error {
    move |source| Error::Netlink { place, source }
}

/// A pod to be connected.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// The pod's uid.
    pub uid: &'a str,
    /// The pod's name for people, shown by `ip link`.
    pub title: &'a str,
    /// The pod's network namespace: a bind mount or `/proc/<pid>/ns/net`.
    pub netns: &'a Path,
    /// The interface's name in the pod.
    pub interface: &'a str,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The host's address for its own connections to pods. It has to have it.
    pub host_address: Ipv4Addr,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Settings of the pod's network namespace by name, such as `net.core.somaxconn`.
    pub settings: &'a [(String, String)],
}

/// A pod that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The pod's uid.
    pub uid: String,
    /// The name of the host's end.
    pub host_interface: String,
    /// The pod's address, unless its route has been taken away.
    pub address: Option<Ipv4Addr>,
}

/// The name of the host's end of a pod's veth pair: the prefix, and a hash that fills the 15
/// bytes that a name can have.
pub fn host_interface(uid: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = crate::proxy::fnv1a(uid.as_bytes());
    let letters = (0..13).map(|n| ALPHABET[(hash.rotate_left(5 * n) & 31) as usize] as char);
    INTERFACE_PREFIX.chars().chain(letters).collect()
}

/// The hardware address of a pod's interface.
fn pod_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0e, 0x6b, a, b, c, d]
}

fn up() -> LinkChange<'static> {
    LinkChange { up: Some(true), ..LinkChange::default() }
}

/// Adds an interface's settings, and takes it up.
fn configure<'r>(
    requests: &'r mut Requests,
    link: &Link,
    settings: &[(InetConf, u32)],
) -> &'r mut Requests {
    requests.set_link(link.index, &LinkChange { inet: settings, ..LinkChange::default() });
    requests.set_link(link.index, &LinkChange { no_ipv6_address: true, ..LinkChange::default() });
    requests.set_link(link.index, &up())
}

/// Kernels without IPv6 have no setting that would keep an interface from having an address of it.
fn no_ipv6(error: &netlink::Error) -> bool {
    error.errno() == Some(netlink::AF_NOT_SUPPORTED)
}

/// Connects a pod. A connection of the same pod that exists already is replaced; after an error
/// nothing is left of either.
pub fn attach(pod: &Attachment<'_>) -> Result<(), Error> {
    try_attach(pod).inspect_err(|_| {
        if let Err(error) = detach(pod.uid, Some(pod.address)) {
            tracing::warn!(uid = pod.uid, %error, "could not remove what is left of a pod");
        }
    })
}

fn try_attach(pod: &Attachment<'_>) -> Result<(), Error> {
    let in_netns = |source| Error::Netns { path: pod.netns.to_owned(), source };
    let netns = Netns::open(pod.netns).map_err(in_netns)?;
    let name = host_interface(pod.uid);
    let mut rtnl = Rtnl::open().map_err(at("host"))?;
    create(&mut rtnl, &netns, pod, &name)?;
    host_end(&mut rtnl, pod, &name).map_err(at("host"))?;
    netns.run(|| pod_end(pod)).map_err(in_netns)?
}

fn create(rtnl: &mut Rtnl, netns: &Netns, pod: &Attachment<'_>, name: &str) -> Result<(), Error> {
    let end = VethEnd { name, mac: HOST_MAC, netns: None, group: INTERFACE_GROUP };
    let peer = VethEnd {
        name: pod.interface,
        mac: pod_mac(pod.address),
        netns: Some(netns.as_fd()),
        group: 0,
    };
    let mut requests = Requests::new();
    requests.add_veth(&Veth { end, peer, mtu: pod.mtu });
    let result = match rtnl.execute(&requests) {
        // Left by a namespace that is still being torn down, or by an attempt that was cut off.
        Err(e) if e.is_exists() && rtnl.link_by_name(name).is_ok() => {
            delete_link(rtnl, name).map_err(at("host"))?;
            rtnl.execute(&requests)
        }
        other => other,
    };
    result.map_err(at("host"))
}

fn host_end(rtnl: &mut Rtnl, pod: &Attachment<'_>, name: &str) -> netlink::Result<()> {
    let link = rtnl.link_by_name(name)?;
    let address = IpAddr::from(pod.address);
    let mut alias = format!("{} {}", pod.uid, pod.title);
    while alias.len() > ALIAS_LIMIT {
        alias.pop();
    }
    let mut requests = Requests::new();
    requests.set_link(link.index, &LinkChange { alias: Some(&alias), ..LinkChange::default() });
    configure(&mut requests, &link, HOST_SETTINGS);
    requests.add_neighbour(&Neighbour { link: link.index, address, mac: pod_mac(pod.address) });
    let route = Route::on_link(address, 32, link.index, ROUTE_PROTOCOL);
    requests.replace_route(&route.from(pod.host_address.into()));
    rtnl.execute_tolerating(&requests, no_ipv6)
}

/// Runs inside the pod's namespace.
fn pod_end(pod: &Attachment<'_>) -> Result<(), Error> {
    let mut rtnl = Rtnl::open().map_err(at("pod"))?;
    let link = rtnl.link_by_name(pod.interface).map_err(at("pod"))?;
    let mut requests = Requests::new();
    requests.set_link(loopback::INDEX, &up());
    configure(&mut requests, &link, POD_SETTINGS);
    requests.add_address(&Address {
        link: link.index,
        address: pod.address.into(),
        prefix: 32,
        scope: Scope::Universe,
        label: String::new(),
    });
    let gateway = IpAddr::from(GATEWAY);
    requests.add_neighbour(&Neighbour { link: link.index, address: gateway, mac: HOST_MAC });
    let default = Route::on_link(Ipv4Addr::UNSPECIFIED.into(), 0, link.index, ROUTE_PROTOCOL);
    requests.replace_route(&default.via(Via::OnLink(gateway)));
    rtnl.execute_tolerating(&requests, no_ipv6).map_err(at("pod"))?;
    pod.settings.iter().try_for_each(|(name, value)| write_setting(name, value))
}

/// Writes a setting of the calling thread's network namespace.
fn write_setting(name: &str, value: &str) -> Result<(), Error> {
    // Dots and slashes are alike in names, but an interface's name may have dots of its own.
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let ours = path.starts_with("net/") && path.split('/').all(|part| !["", ".."].contains(&part));
    let result = if ours {
        std::fs::write(Path::new("/proc/sys").join(path), value)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a setting of a network namespace"))
    };
    result.map_err(|source| Error::Setting { name: name.into(), value: value.into(), source })
}

/// Whether the namespace has an interface with this address.
pub fn is_attached(netns: &Path, interface: &str, address: Ipv4Addr) -> Result<bool, Error> {
    let in_netns = |source| Error::Netns { path: netns.to_owned(), source };
    let mut rtnl = Netns::open(netns)
        .and_then(|netns| netns.run(Rtnl::open))
        .map_err(in_netns)?
        .map_err(at("pod"))?;
    let link = match rtnl.link_by_name(interface) {
        Ok(link) => link,
        Err(e) if e.is_not_found() => return Ok(false),
        Err(e) => return Err(at("pod")(e)),
    };
    let addresses = rtnl.addresses().map_err(at("pod"))?;
    Ok(addresses.iter().any(|a| a.link == link.index && a.address == IpAddr::from(address)))
}

/// Disconnects a pod whose namespace is about to go away. Nothing reaches it any more when this
/// returns; the veth pair goes with the namespace, which is ten times quicker than deleting it.
/// Nothing changes if the pod is not connected.
pub fn disconnect(uid: &str, address: Ipv4Addr) -> netlink::Result<()> {
    let mut rtnl = Rtnl::open()?;
    let link = match rtnl.link_by_name(&host_interface(uid)) {
        Ok(link) => link.index,
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut requests = Requests::new();
    requests.delete_route(&Route::on_link(address.into(), 32, link, ROUTE_PROTOCOL));
    rtnl.execute_tolerating(&requests, netlink::Error::is_not_found)
}

/// Disconnects a pod and deletes its veth pair, which takes some 30 ms. Nothing changes if the
/// pod is not connected.
pub fn detach(uid: &str, address: Option<Ipv4Addr>) -> netlink::Result<()> {
    if let Some(address) = address {
        disconnect(uid, address)?;
    }
    delete_link(&mut Rtnl::open()?, &host_interface(uid))
}

fn delete_link(rtnl: &mut Rtnl, name: &str) -> netlink::Result<()> {
    let mut requests = Requests::new();
    match rtnl.link_by_name(name) {
        Ok(link) => drop(requests.delete_link(link.index)),
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
    }
    rtnl.execute_tolerating(&requests, netlink::Error::is_not_found)
}

/// The pods that are connected, as the kernel has them.
pub fn attached() -> netlink::Result<Vec<Attached>> {
    let mut rtnl = Rtnl::open()?;
    let routes = rtnl.routes()?;
    let ours = |l: &Link| l.group == INTERFACE_GROUP && l.kind == "veth";
    let pods = rtnl.links()?.into_iter().filter(ours).map(|link| {
        let route = routes.iter().find(|r| r.link == link.index && r.prefix == 32);
        Attached {
            uid: link.alias.split(' ').next().unwrap_or_default().to_owned(),
            host_interface: link.name,
            address: route.and_then(|r| match r.destination {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            }),
        }
    });
    Ok(pods.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_stable_and_fit() {
        let name = host_interface("6b1f3f0e-5d0f-4a2e-9a53-0d2f3c1b7a11");
        assert_eq!(name.len(), 15);
        assert!(name.starts_with("kn"));
        assert_eq!(name, host_interface("6b1f3f0e-5d0f-4a2e-9a53-0d2f3c1b7a11"));
        assert_ne!(name, host_interface("6b1f3f0e-5d0f-4a2e-9a53-0d2f3c1b7a12"));
    }

    #[test]
    fn only_settings_of_the_network_namespace_are_written() {
        for name in ["kernel.shmmax", "net/../kernel/hostname", "net..x", "", "net"] {
            let error = write_setting(name, "1").unwrap_err();
            assert!(error.to_string().contains("not a setting of a network"), "{error}");
        }
    }
}
