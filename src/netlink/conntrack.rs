//! The IPv4 connection tracking table: tracked flows, and forgetting some of them.
//!
//! The kernel decides once per flow where address translation sends it. A UDP flow lives as long
//! as packets keep coming, so one that leads to an endpoint that is gone has to be forgotten.

use std::net::Ipv4Addr;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::error::{Error, Result};
use crate::message::{Attribute, Attributes, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use crate::socket::Socket;

const SUBSYSTEM: u16 = 1 << 8;
const IPCTNL_MSG_CT_GET: u16 = SUBSYSTEM | 1;
const IPCTNL_MSG_CT_DELETE: u16 = SUBSYSTEM | 2;

/// `struct nfgenmsg` for IPv4.
const HEADER: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_F_CTA_PROTO_NUM: u32 = 1 << 3;

/// How many deletions go into one datagram.
const DELETIONS_PER_DATAGRAM: usize = 128;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// A tracked flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// As the first packet had it, before any translation.
    pub original: Tuple,
    /// As answers come in: its source is where the flow really goes.
    pub reply: Tuple,
    id: Option<u32>,
    zone: Option<u16>,
}

/// A socket to the connection tracking table of the namespace it was opened in.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(NETLINK_NETFILTER)? })
    }

    /// The flows of an IP protocol for which `wanted` holds.
    pub fn flows(&mut self, protocol: u8, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>> {
        let build = |m: &mut Message, sequence| {
            let start = m.begin(IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, sequence);
            m.raw(&HEADER);
            // Kernels before 5.8 ignore the filter, which is why it is applied again below.
            m.nest(CTA_TUPLE_ORIG, |m| {
                m.nest(CTA_TUPLE_PROTO, |m| m.put_u8(CTA_PROTO_NUM, protocol));
            });
            m.nest(CTA_FILTER, |m| m.put_u32(CTA_FILTER_ORIG_FLAGS, CTA_FILTER_F_CTA_PROTO_NUM));
            m.end(start);
        };
        self.socket.dump("list tracked flows", build, |payload| {
            read(payload).filter(|f| f.original.protocol == protocol && wanted(f))
        })
    }

    /// Forgets flows. One that is gone already counts as forgotten.
    pub fn forget(&mut self, flows: &[Flow]) -> Result<()> {
        for chunk in flows.chunks(DELETIONS_PER_DATAGRAM) {
            let count = chunk.len() as u32;
            let first = self.socket.sequences(count);
            let mut m = Message::default();
            for (sequence, flow) in (first..).zip(chunk) {
                let start = m.begin(IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, sequence);
                m.raw(&HEADER);
                m.nest(CTA_TUPLE_ORIG, |m| write_tuple(m, &flow.original));
                // The id tells the flow from a later one between the same ports.
                if let Some(id) = flow.id {
                    m.put_be32(CTA_ID, id);
                }
                if let Some(zone) = flow.zone {
                    m.put_be16(CTA_ZONE, zone);
                }
                m.end(start);
            }
            self.socket.send(m.bytes())?;
            let mut result = Ok(());
            self.socket.acknowledgements(first, count, |refusal| {
                let error = Error::refused("forget tracked flow", refusal.errno, refusal.text);
                if result.is_ok() && !error.is_not_found() {
                    result = Err(error);
                }
            })?;
            result?;
        }
        Ok(())
    }
}

fn write_tuple(m: &mut Message, tuple: &Tuple) {
    m.nest(CTA_TUPLE_IP, |m| {
        m.put(CTA_IP_V4_SRC, &tuple.source.octets());
        m.put(CTA_IP_V4_DST, &tuple.destination.octets());
    });
    m.nest(CTA_TUPLE_PROTO, |m| {
        m.put_u8(CTA_PROTO_NUM, tuple.protocol);
        m.put_be16(CTA_PROTO_SRC_PORT, tuple.source_port);
        m.put_be16(CTA_PROTO_DST_PORT, tuple.destination_port);
    });
}

fn read_tuple(tuple: Attribute<'_>) -> Option<Tuple> {
    let ip = tuple.nested().get(CTA_TUPLE_IP)?.nested();
    let proto = tuple.nested().get(CTA_TUPLE_PROTO)?.nested();
    let address = |kind| ip.get(kind).and_then(|a| a.be32()).map(Ipv4Addr::from);
    // Protocols without ports (ICMP) have other attributes here.
    let port = |kind| proto.get(kind).and_then(|a| a.be16()).unwrap_or(0);
    Some(Tuple {
        source: address(CTA_IP_V4_SRC)?,
        destination: address(CTA_IP_V4_DST)?,
        protocol: proto.get(CTA_PROTO_NUM)?.u8()?,
        source_port: port(CTA_PROTO_SRC_PORT),
        destination_port: port(CTA_PROTO_DST_PORT),
    })
}

fn read(payload: &[u8]) -> Option<Flow> {
    let attributes = Attributes(payload.get(HEADER.len()..)?);
    Some(Flow {
        original: read_tuple(attributes.get(CTA_TUPLE_ORIG)?)?,
        reply: read_tuple(attributes.get(CTA_TUPLE_REPLY)?)?,
        id: attributes.get(CTA_ID).and_then(|a| a.be32()),
        zone: attributes.get(CTA_ZONE).and_then(|a| a.be16()),
    })
}
