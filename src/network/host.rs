//! What the host itself needs before pods can be attached to it.

use std::io;
use std::net::Ipv4Addr;

use netlink::rtnl::{LinkChange, Requests, Route, Rtnl};

use crate::cidr::Cidr;
use crate::loopback;
use crate::mark::{INTERFACE_GROUP, ROUTE_PROTOCOL};

/// Why the host could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kernel setting could not be written.
    #[error("write /proc/sys/net/ipv4/{name}: {source}")]
    Setting {
        /// The setting's path below `/proc/sys/net/ipv4`.
        name: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// An address or route was refused.
    #[error("make the host ready for pods: {0}")]
    Netlink(#[from] netlink::Error),
}

/// Makes the host ready: it forwards packets, has an address of its own in the node's pod network
/// (the one after the lowest, on its loopback interface) and a route for services. May be called
/// again at any time.
///
/// The route is for the host's own connections. A connection gets its route and its source
/// address before the proxy sees it, so without one, a host that has lost its default route
/// could not reach any service. What the route leads to does not matter: no packet with a
/// service's address leaves. Addresses of the node's pod network that no pod has are unreachable;
/// without a route to say so, packets to a pod that is gone would leave by the default route.
pub fn prepare(node: Cidr, services: &[Cidr]) -> Result<(), Error> {
    setting("ip_forward", "1")?;
    // Each interface adds its own; ours are off, but count only if this is, too. A pod that a
    // service leads back to itself would be told to take a shorter way.
    setting("conf/all/send_redirects", "0")?;
    let mut requests = Requests::new();
    requests.set_link(loopback::INDEX, &LinkChange { up: Some(true), ..LinkChange::default() });
    Rtnl::open()?.execute(&requests)?;
    loopback::hold(node.gateway())?;
    let mut requests = Requests::new();
    requests.replace_route(&Route::unreachable(node.first().into(), node.prefix(), ROUTE_PROTOCOL));
    for cidr in services {
        requests.replace_route(&service_route(*cidr, node.gateway()));
    }
    Ok(Rtnl::open()?.execute(&requests)?)
}

/// The MTU of the interface that the default route leads to, or of the widest other interface if
/// there is none: what pods can have without an overlay.
pub fn mtu() -> netlink::Result<u32> {
    const ETHERNET: u32 = 1500;
    let mut rtnl = Rtnl::open()?;
    let default = rtnl.default_route()?.map(|route| route.link);
    let links = rtnl.links()?;
    let of_default = links.iter().find(|link| Some(link.index) == default);
    let others = links.iter().filter(|link| !link.loopback && link.group != INTERFACE_GROUP);
    let widest = others.filter(|link| link.up).map(|link| link.mtu).max();
    Ok(of_default.map(|link| link.mtu).or(widest).unwrap_or(ETHERNET))
}

fn service_route(cidr: Cidr, source: Ipv4Addr) -> Route {
    Route::on_link(cidr.first().into(), cidr.prefix(), loopback::INDEX, ROUTE_PROTOCOL)
        .from(source.into())
}

fn setting(name: &'static str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    // Writing is not always allowed where the value is right already.
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| Error::Setting { name, source })
}
