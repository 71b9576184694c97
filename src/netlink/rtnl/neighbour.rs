//! Permanent neighbours (ARP entries) and forwarding entries of VXLAN devices.

use std::net::IpAddr;

use super::address::{family, put_ip};
use super::{Mac, Requests};
use crate::message::{NLM_F_CREATE, NLM_F_REPLACE};

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

/// `struct ndmsg`.
const HEADER_LEN: usize = 12;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 0x02;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// The hardware address of an address on an interface's link, known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface's index.
    pub link: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
}

/// Where a VXLAN device sends frames for a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardingEntry {
    /// The VXLAN device's index.
    pub link: u32,
    /// The hardware address of frames; all zeros is the default.
    pub mac: Mac,
    /// The machine that they are sent to.
    pub remote: IpAddr,
}

fn header(family: u8, link: u32, flags: u8) -> [u8; HEADER_LEN] {
    let mut h = [0; HEADER_LEN];
    h[0] = family;
    h[4..8].copy_from_slice(&link.to_ne_bytes());
    h[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    h[10] = flags;
    h
}

impl Requests {
    /// Adds or replaces a permanent neighbour.
    pub fn add_neighbour(&mut self, neighbour: &Neighbour) -> &mut Self {
        let header = header(family(neighbour.address), neighbour.link, 0);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.push("add neighbour", RTM_NEWNEIGH, flags, &header, |m| {
            put_ip(m, NDA_DST, neighbour.address);
            m.put(NDA_LLADDR, &neighbour.mac);
        })
    }

    /// Removes a neighbour.
    pub fn delete_neighbour(&mut self, neighbour: &Neighbour) -> &mut Self {
        let header = header(family(neighbour.address), neighbour.link, 0);
        self.push("delete neighbour", RTM_DELNEIGH, 0, &header, |m| {
            put_ip(m, NDA_DST, neighbour.address);
        })
    }

    /// Adds or replaces a forwarding entry.
    pub fn add_forwarding(&mut self, entry: &ForwardingEntry) -> &mut Self {
        let header = header(libc::AF_BRIDGE as u8, entry.link, NTF_SELF);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.push("add forwarding entry", RTM_NEWNEIGH, flags, &header, |m| {
            m.put(NDA_LLADDR, &entry.mac);
            put_ip(m, NDA_DST, entry.remote);
        })
    }

    /// Removes a forwarding entry.
    pub fn delete_forwarding(&mut self, entry: &ForwardingEntry) -> &mut Self {
        let header = header(libc::AF_BRIDGE as u8, entry.link, NTF_SELF);
        self.push("delete forwarding entry", RTM_DELNEIGH, 0, &header, |m| {
            m.put(NDA_LLADDR, &entry.mac);
            put_ip(m, NDA_DST, entry.remote);
        })
    }
}
