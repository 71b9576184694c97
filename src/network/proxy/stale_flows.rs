//! Tracked UDP flows that lead to where nobody is any more.
//!
//! UDP has no end of a connection: as long as a client goes on sending, the kernel leads it to the
//! endpoint that it chose at first. What TCP clients find out by themselves has to be seen to here.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use netlink::conntrack::{Conntrack, Flow, Tuple};
use netlink::rtnl::Rtnl;

use super::element::{Frontend, Target};
use super::model::Protocol;

/// Forgets UDP flows to `frontends` that lead elsewhere than to the targets listed with each.
pub(super) fn forget(
    conntrack: &mut Conntrack,
    rtnl: &mut Rtnl,
    frontends: &HashMap<Frontend, Vec<Target>>,
) -> netlink::Result<usize> {
    if frontends.is_empty() {
        return Ok(0);
    }
    // A node port is one only at addresses of this node.
    let own: HashSet<Ipv4Addr> = if frontends.keys().any(|f| f.is_node_port()) {
        let ipv4 = |a: IpAddr| if let IpAddr::V4(v4) = a { Some(v4) } else { None };
        rtnl.addresses()?.into_iter().filter_map(|a| ipv4(a.address)).collect()
    } else {
        HashSet::new()
    };
    let stale = conntrack.flows(Protocol::Udp as u8, |flow| is_stale(flow, &own, frontends))?;
    conntrack.forget(&stale)?;
    Ok(stale.len())
}

fn is_stale(
    flow: &Flow,
    own: &HashSet<Ipv4Addr>,
    frontends: &HashMap<Frontend, Vec<Target>>,
) -> bool {
    let Tuple { destination, destination_port: port, .. } = flow.original;
    let at = |address| frontends.get(&Frontend { address, port, protocol: Protocol::Udp });
    let node_port = || at(Ipv4Addr::UNSPECIFIED).filter(|_| own.contains(&destination));
    let leads_to = Target { ip: flow.reply.source, port: flow.reply.source_port };
    at(destination).or_else(node_port).is_some_and(|targets| !targets.contains(&leads_to))
}
