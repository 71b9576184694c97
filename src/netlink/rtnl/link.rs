//! Links: veth pairs, VXLAN devices, and the settings of a device.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Mac, Requests, Rtnl};
use crate::error::Result;
use crate::message::{
    Attributes, Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, u32_at,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

/// `struct ifinfomsg`.
const HEADER_LEN: usize = 16;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;

const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;

const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// One end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// The interface name, at most 15 bytes.
    pub name: &'a str,
    /// The hardware address.
    pub mac: Mac,
    /// The namespace to put this end into; the socket's own if absent.
    pub netns: Option<BorrowedFd<'a>>,
    /// The interface group; 0 is what all interfaces are in.
    pub group: u32,
}

/// A veth pair to make. Both ends are down at first: the kernel refuses a peer that is created up.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// The end that stays.
    pub end: VethEnd<'a>,
    /// The other end.
    pub peer: VethEnd<'a>,
    /// The MTU of both ends.
    pub mtu: u32,
}

/// A VXLAN device to make, without learning and without a default destination: its forwarding
/// table is written with [`super::ForwardingEntry`].
#[derive(Debug, Clone, Copy)]
pub struct Vxlan<'a> {
    /// The interface name, at most 15 bytes.
    pub name: &'a str,
    /// The network identifier (VNI).
    pub id: u32,
    /// The device's hardware address.
    pub mac: Mac,
    /// The address that packets are sent from.
    pub local: Ipv4Addr,
    /// The underlying interface, or 0 to let the routes decide.
    pub underlay: u32,
    /// The UDP port, both ways. IANA gave 4789; Linux's own default is 8472.
    pub port: u16,
    /// The MTU. VXLAN over IPv4 takes 50 bytes of the underlay's; the kernel does not subtract them.
    pub mtu: u32,
    /// The interface group.
    pub group: u32,
}

/// An IPv4 setting of an interface, as under `/proc/sys/net/ipv4/conf/<name>/`. The numbers are
/// those of `linux/ip.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "the names are the kernel's, see ip-sysctl.rst")]
pub enum InetConf {
    Forwarding = 1,
    ProxyArp = 3,
    AcceptRedirects = 4,
    SendRedirects = 6,
    RpFilter = 8,
    ArpAnnounce = 18,
    ArpIgnore = 19,
    RouteLocalnet = 26,
}

/// What to change about an interface; the default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// Administrative state.
    pub up: Option<bool>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Index of the bridge (or bond) to join; 0 leaves it.
    pub master: Option<u32>,
    /// A text for people, shown by `ip link`, of at most 255 bytes.
    pub alias: Option<&'a str>,
    /// IPv4 settings. They are applied after `up` when both are in one change.
    pub inet: &'a [(InetConf, u32)],
    /// Whether to leave the interface without an IPv6 link-local address, and so without the
    /// traffic that comes with one. Must be set before the interface is up. Kernels without IPv6
    /// refuse it with `EAFNOSUPPORT`.
    pub no_ipv6_address: bool,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number within the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// The driver's word for what it is ("veth", "bridge", "vxlan"), empty for hardware.
    pub kind: String,
    /// Interface group.
    pub group: u32,
    /// The text for people, or empty.
    pub alias: String,
    /// The bridge or bond that it belongs to.
    pub master: Option<u32>,
}

fn header(index: u32, flags: u32, change: u32) -> [u8; HEADER_LEN] {
    let mut h = [0; HEADER_LEN];
    h[4..8].copy_from_slice(&index.to_ne_bytes());
    h[8..12].copy_from_slice(&flags.to_ne_bytes());
    h[12..16].copy_from_slice(&change.to_ne_bytes());
    h
}

fn veth_end(m: &mut Message, end: &VethEnd<'_>, mtu: u32) {
    m.put_str(IFLA_IFNAME, end.name);
    m.put(IFLA_ADDRESS, &end.mac);
    m.put_u32(IFLA_MTU, mtu);
    // The default is a queue a possible CPU. Without XDP they are never used, and on a large
    // machine making them takes longer than all the rest.
    m.put_u32(IFLA_NUM_TX_QUEUES, 1);
    m.put_u32(IFLA_NUM_RX_QUEUES, 1);
    if end.group != 0 {
        m.put_u32(IFLA_GROUP, end.group);
    }
    if let Some(netns) = end.netns {
        m.put_u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    }
}

impl Requests {
    /// Makes a veth pair; an end with a namespace is created there, never seen elsewhere.
    pub fn add_veth(&mut self, veth: &Veth<'_>) -> &mut Self {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.push("create veth pair", RTM_NEWLINK, flags, &header(0, 0, 0), |m| {
            veth_end(m, &veth.end, veth.mtu);
            m.nest(IFLA_LINKINFO, |m| {
                m.put_str(IFLA_INFO_KIND, "veth");
                m.nest(IFLA_INFO_DATA, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        m.raw(&header(0, 0, 0));
                        veth_end(m, &veth.peer, veth.mtu);
                    });
                });
            });
        })
    }

    /// Makes a VXLAN device; it is down at first.
    pub fn add_vxlan(&mut self, vxlan: &Vxlan<'_>) -> &mut Self {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.push("create vxlan device", RTM_NEWLINK, flags, &header(0, 0, 0), |m| {
            m.put_str(IFLA_IFNAME, vxlan.name);
            m.put(IFLA_ADDRESS, &vxlan.mac);
            m.put_u32(IFLA_MTU, vxlan.mtu);
            if vxlan.group != 0 {
                m.put_u32(IFLA_GROUP, vxlan.group);
            }
            m.nest(IFLA_LINKINFO, |m| {
                m.put_str(IFLA_INFO_KIND, "vxlan");
                m.nest(IFLA_INFO_DATA, |m| {
                    m.put_u32(IFLA_VXLAN_ID, vxlan.id);
                    m.put(IFLA_VXLAN_LOCAL, &vxlan.local.octets());
                    if vxlan.underlay != 0 {
                        m.put_u32(IFLA_VXLAN_LINK, vxlan.underlay);
                    }
                    m.put_be16(IFLA_VXLAN_PORT, vxlan.port);
                    m.put_u8(IFLA_VXLAN_LEARNING, 0);
                });
            });
        })
    }

    /// Changes an interface.
    pub fn set_link(&mut self, index: u32, change: &LinkChange<'_>) -> &mut Self {
        let up = libc::IFF_UP as u32;
        let (flags, mask) = match change.up {
            Some(true) => (up, up),
            Some(false) => (0, up),
            None => (0, 0),
        };
        self.push("set link", RTM_SETLINK, 0, &header(index, flags, mask), |m| {
            if let Some(mtu) = change.mtu {
                m.put_u32(IFLA_MTU, mtu);
            }
            if let Some(master) = change.master {
                m.put_u32(IFLA_MASTER, master);
            }
            if let Some(alias) = change.alias {
                m.put(IFLA_IFALIAS, alias.as_bytes());
            }
            if change.inet.is_empty() && !change.no_ipv6_address {
                return;
            }
            m.nest(IFLA_AF_SPEC, |m| {
                if !change.inet.is_empty() {
                    m.nest(libc::AF_INET as u16, |m| {
                        m.nest(IFLA_INET_CONF, |m| {
                            change.inet.iter().for_each(|(k, v)| m.put_u32(*k as u16, *v));
                        });
                    });
                }
                if change.no_ipv6_address {
                    m.nest(libc::AF_INET6 as u16, |m| {
                        m.put_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                    });
                }
            });
        })
    }

    /// Deletes an interface, and with a veth its peer. This waits for the kernel to let go of it,
    /// some 30 ms.
    pub fn delete_link(&mut self, index: u32) -> &mut Self {
        self.push("delete link", RTM_DELLINK, 0, &header(index, 0, 0), |_| ())
    }

    /// Deletes all interfaces of a group, which together cost hardly more than one. Refused with
    /// `ENODEV` if there are none.
    pub fn delete_link_group(&mut self, group: u32) -> &mut Self {
        self.push("delete link group", RTM_DELLINK, 0, &header(0, 0, 0), |m| {
            m.put_u32(IFLA_GROUP, group);
        })
    }
}

impl Rtnl {
    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let build = |m: &mut Message, sequence| {
            let start = m.begin(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence);
            m.raw(&header(0, 0, 0));
            m.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
            m.end(start);
        };
        self.socket.dump("list links", build, read)
    }

    /// The interface of this name.
    pub fn link_by_name(&mut self, name: &str) -> Result<Link> {
        let build = |m: &mut Message, sequence| {
            let start = m.begin(RTM_GETLINK, NLM_F_REQUEST, sequence);
            m.raw(&header(0, 0, 0));
            m.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
            m.put_str(IFLA_IFNAME, name);
            m.end(start);
        };
        self.socket.get("look up link", build, read)
    }
}

fn read(payload: &[u8]) -> Option<Link> {
    let attributes = Attributes(payload.get(HEADER_LEN..)?);
    let flags = u32_at(payload, 8)? as libc::c_int;
    let find = |kind| attributes.get(kind);
    let kind = find(IFLA_LINKINFO).and_then(|i| i.nested().get(IFLA_INFO_KIND));
    Some(Link {
        index: u32_at(payload, 4)?,
        name: find(IFLA_IFNAME)?.str()?.to_owned(),
        up: flags & libc::IFF_UP != 0,
        loopback: flags & libc::IFF_LOOPBACK != 0,
        mtu: find(IFLA_MTU)?.u32()?,
        mac: find(IFLA_ADDRESS).and_then(|a| a.payload.try_into().ok()),
        kind: kind.and_then(|k| k.str()).unwrap_or_default().to_owned(),
        group: find(IFLA_GROUP).and_then(|a| a.u32()).unwrap_or(0),
        alias: find(IFLA_IFALIAS).and_then(|a| a.str()).unwrap_or_default().to_owned(),
        master: find(IFLA_MASTER).and_then(|a| a.u32()),
    })
}
