//! Routes of the main table, and the route that a packet would take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{Scope, family, put_ip, read_ip};
use super::{Requests, Rtnl};
use crate::error::Result;
use crate::message::{
    Attributes, Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, u32_at,
};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// `struct rtmsg`.
const HEADER_LEN: usize = 12;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTN_UNREACHABLE: u8 = 7;
const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// It is on the interface's link.
    Link,
    /// By way of a router that another route reaches.
    Gateway(IpAddr),
    /// By way of a router taken to be on the interface's link, whatever the addresses say.
    OnLink(IpAddr),
    /// Not at all: senders are told so.
    Unreachable,
}

/// A route of the main table, unicast or unreachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destination network's address.
    pub destination: IpAddr,
    /// The destination's prefix length; 0 is the default route.
    pub prefix: u8,
    /// The interface's index; 0 of a route over several paths or of none.
    pub link: u32,
    /// How the destination is reached.
    pub via: Via,
    /// The source address that the host itself uses.
    pub source: Option<IpAddr>,
    /// Metric; the lowest wins.
    pub priority: u32,
    /// Who made it: a number of `/etc/iproute2/rt_protos`, for finding one's own.
    pub protocol: u8,
}

impl Route {
    /// A route to `destination/prefix` on the link of an interface.
    pub fn on_link(destination: IpAddr, prefix: u8, link: u32, protocol: u8) -> Self {
        Self { destination, prefix, link, via: Via::Link, source: None, priority: 0, protocol }
    }

    /// A route that says that `destination/prefix` cannot be reached.
    pub fn unreachable(destination: IpAddr, prefix: u8, protocol: u8) -> Self {
        Self { via: Via::Unreachable, ..Self::on_link(destination, prefix, 0, protocol) }
    }

    /// The same route by way of something else.
    pub fn via(self, via: Via) -> Self {
        Self { via, ..self }
    }

    /// The same route with a preferred source address.
    pub fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }
}

fn header(route: &Route) -> [u8; HEADER_LEN] {
    let (scope, flags, kind) = match route.via {
        Via::Link => (Scope::Link, 0, RTN_UNICAST),
        Via::Gateway(_) => (Scope::Universe, 0, RTN_UNICAST),
        Via::OnLink(_) => (Scope::Universe, RTNH_F_ONLINK, RTN_UNICAST),
        Via::Unreachable => (Scope::Universe, 0, RTN_UNREACHABLE),
    };
    let mut h = [0; HEADER_LEN];
    h[0] = family(route.destination);
    h[1] = route.prefix;
    h[4] = RT_TABLE_MAIN;
    h[5] = route.protocol;
    h[6] = scope as u8;
    h[7] = kind;
    h[8..12].copy_from_slice(&flags.to_ne_bytes());
    h
}

fn fill(m: &mut Message, route: &Route) {
    if route.prefix > 0 {
        put_ip(m, RTA_DST, route.destination);
    }
    if route.via != Via::Unreachable {
        m.put_u32(RTA_OIF, route.link);
    }
    if let Via::Gateway(gateway) | Via::OnLink(gateway) = route.via {
        put_ip(m, RTA_GATEWAY, gateway);
    }
    if let Some(source) = route.source {
        put_ip(m, RTA_PREFSRC, source);
    }
    if route.priority != 0 {
        m.put_u32(RTA_PRIORITY, route.priority);
    }
}

impl Requests {
    /// Adds a route; refused with `EEXIST` if its destination has one of the same priority.
    pub fn add_route(&mut self, route: &Route) -> &mut Self {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.push("add route", RTM_NEWROUTE, flags, &header(route), |m| fill(m, route))
    }

    /// Adds a route in place of any that its destination has.
    pub fn replace_route(&mut self, route: &Route) -> &mut Self {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.push("replace route", RTM_NEWROUTE, flags, &header(route), |m| fill(m, route))
    }

    /// Removes exactly this route.
    pub fn delete_route(&mut self, route: &Route) -> &mut Self {
        self.push("delete route", RTM_DELROUTE, 0, &header(route), |m| fill(m, route))
    }
}

impl Rtnl {
    /// The routes of the main table, IPv4 and IPv6.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let build = |m: &mut Message, sequence| {
            let start = m.begin(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, sequence);
            m.raw(&[0; HEADER_LEN]);
            m.end(start);
        };
        let main = |payload: &[u8]| read(payload).filter(|r| r.1).map(|r| r.0);
        self.socket.dump("list routes", build, main)
    }

    /// The IPv4 default route of the lowest metric.
    pub fn default_route(&mut self) -> Result<Option<Route>> {
        let routes = self.routes()?.into_iter();
        let default = routes.filter(|r| r.prefix == 0 && r.destination.is_ipv4() && r.link != 0);
        Ok(default.min_by_key(|r| r.priority))
    }

    /// The route that a packet of this host to `destination` would take: interface, next hop and
    /// source address. Refused with `ENETUNREACH` if there is none.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Route> {
        let build = |m: &mut Message, sequence| {
            let start = m.begin(RTM_GETROUTE, NLM_F_REQUEST, sequence);
            let mut h = [0; HEADER_LEN];
            h[0] = family(destination);
            h[1] = if destination.is_ipv4() { 32 } else { 128 };
            m.raw(&h);
            put_ip(m, RTA_DST, destination);
            m.end(start);
        };
        self.socket.get("look up route", build, |payload| read(payload).map(|r| r.0))
    }
}

/// The route, and whether it is one of the main table.
fn read(payload: &[u8]) -> Option<(Route, bool)> {
    let &[family, prefix, _, _, table, protocol, _, kind, ..] = payload else { return None };
    let flags = u32_at(payload, 8)?;
    let attributes = Attributes(payload.get(HEADER_LEN..)?);
    let ip = |kind| attributes.get(kind).and_then(read_ip);
    let number = |kind| attributes.get(kind).and_then(|a| a.u32());
    let unspecified: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let route = Route {
        destination: ip(RTA_DST).unwrap_or(unspecified),
        prefix,
        link: number(RTA_OIF).unwrap_or(0),
        via: match ip(RTA_GATEWAY) {
            Some(gateway) if flags & RTNH_F_ONLINK != 0 => Via::OnLink(gateway),
            Some(gateway) => Via::Gateway(gateway),
            None if kind == RTN_UNREACHABLE => Via::Unreachable,
            None => Via::Link,
        },
        source: ip(RTA_PREFSRC),
        priority: number(RTA_PRIORITY).unwrap_or(0),
        protocol,
    };
    let table = number(RTA_TABLE).unwrap_or(u32::from(table));
    let main = table == u32::from(RT_TABLE_MAIN)
        && [RTN_UNICAST, RTN_UNREACHABLE].contains(&kind)
        && flags & RTM_F_CLONED == 0;
    Some((route, main))
}
