//! Addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Requests, Rtnl};
use crate::error::Result;
use crate::message::{
    Attribute, Attributes, Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, u32_at,
};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// `struct ifaddrmsg`.
const HEADER_LEN: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_FLAGS: u16 = 8;

const IFA_F_NODAD: u32 = 0x02;

/// How far an address or route reaches. The numbers are those of `linux/rtnetlink.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Scope {
    /// Valid everywhere.
    #[default]
    Universe = 0,
    /// Valid on the attached link only.
    Link = 253,
    /// Valid within this host only; never chosen as the source of a packet that leaves it.
    Host = 254,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub link: u32,
    /// The address itself.
    pub address: IpAddr,
    /// The length of the prefix that is reachable over the interface.
    pub prefix: u8,
    /// How far it reaches.
    pub scope: Scope,
    /// A label of at most 15 bytes that begins with the interface's name, or empty. IPv4 only.
    pub label: String,
}

pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

pub(super) fn put_ip(m: &mut Message, attribute: u16, address: IpAddr) {
    match address {
        IpAddr::V4(a) => m.put(attribute, &a.octets()),
        IpAddr::V6(a) => m.put(attribute, &a.octets()),
    }
}

pub(super) fn read_ip(attribute: Attribute<'_>) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(attribute.payload) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(attribute.payload).ok().map(|v6| Ipv6Addr::from(v6).into())
}

fn header(address: &Address) -> [u8; HEADER_LEN] {
    let mut h = [family(address.address), address.prefix, 0, address.scope as u8, 0, 0, 0, 0];
    h[4..8].copy_from_slice(&address.link.to_ne_bytes());
    h
}

fn fill(m: &mut Message, address: &Address) {
    put_ip(m, IFA_LOCAL, address.address);
    put_ip(m, IFA_ADDRESS, address.address);
    if !address.label.is_empty() {
        m.put_str(IFA_LABEL, &address.label);
    }
}

impl Requests {
    /// Adds an address; one that is there already stays as it is.
    pub fn add_address(&mut self, address: &Address) -> &mut Self {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.push("add address", RTM_NEWADDR, flags, &header(address), |m| {
            fill(m, address);
            if address.address.is_ipv6() {
                m.put_u32(IFA_FLAGS, IFA_F_NODAD);
            }
        })
    }

    /// Removes an address.
    pub fn delete_address(&mut self, address: &Address) -> &mut Self {
        self.push("delete address", RTM_DELADDR, 0, &header(address), |m| fill(m, address))
    }
}

impl Rtnl {
    /// All addresses of all interfaces.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let build = |m: &mut Message, sequence| {
            let start = m.begin(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence);
            m.raw(&[0; HEADER_LEN]);
            m.end(start);
        };
        self.socket.dump("list addresses", build, read)
    }
}

fn read(payload: &[u8]) -> Option<Address> {
    let attributes = Attributes(payload.get(HEADER_LEN..)?);
    // On a point-to-point link IFA_ADDRESS is the other side.
    let address = attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?;
    Some(Address {
        link: u32_at(payload, 4)?,
        address: read_ip(address)?,
        prefix: *payload.get(1)?,
        scope: match *payload.get(3)? {
            254 => Scope::Host,
            253 => Scope::Link,
            _ => Scope::Universe,
        },
        label: attributes.get(IFA_LABEL).and_then(|a| a.str()).unwrap_or_default().to_owned(),
    })
}
