//! rtnetlink: links, addresses, routes and neighbours of a network namespace.
//!
//! Changes are collected in [`Requests`] and carried out by one system call; lists and look-ups
//! are methods of [`Rtnl`].

mod address;
mod link;
mod neighbour;
mod route;

use netlink_sys::protocols::NETLINK_ROUTE;

pub use address::{Address, Scope};
pub use link::{InetConf, Link, LinkChange, Veth, VethEnd, Vxlan};
pub use neighbour::{ForwardingEntry, Neighbour};
pub use route::{Route, Via};

use crate::error::{Error, Result};
use crate::message::{Message, NLM_F_ACK, NLM_F_REQUEST};
use crate::netns::Netns;
use crate::socket::Socket;

/// A hardware address.
pub type Mac = [u8; 6];

/// How many requests go into one datagram. Their acknowledgements queue up until the last is
/// carried out, and what does not fit into the receive buffer (200 KiB, near 1 KiB each) is lost.
const REQUESTS_PER_DATAGRAM: usize = 64;

/// Changes to be made in order. One that fails does not stop those after it.
#[derive(Debug, Default)]
pub struct Requests {
    message: Message,
    /// Where each message begins, and what it does, for errors.
    entries: Vec<(usize, &'static str)>,
}

impl Requests {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a request: `header` is the family's fixed header, `fill` writes the attributes.
    fn push(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Message),
    ) -> &mut Self {
        let start = self.message.begin(kind, NLM_F_REQUEST | NLM_F_ACK | flags, 0);
        self.message.raw(header);
        fill(&mut self.message);
        self.message.end(start);
        self.entries.push((start, what));
        self
    }
}

/// A rtnetlink socket. It acts on the network namespace that it was opened in.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(NETLINK_ROUTE)? })
    }

    /// Opens a socket inside `netns`. The calling thread stays where it is.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.run(Self::open).map_err(Error::socket("enter the network namespace"))?
    }

    /// Carries out all of `requests` and returns the first error. If `tolerate` holds for a
    /// refusal, it counts as done.
    pub fn execute_tolerating(
        &mut self,
        requests: &Requests,
        tolerate: impl Fn(&Error) -> bool,
    ) -> Result<()> {
        let mut first_error = Ok(());
        for (n, chunk) in requests.entries.chunks(REQUESTS_PER_DATAGRAM).enumerate() {
            let next = requests.entries.get((n + 1) * REQUESTS_PER_DATAGRAM);
            let end = next.map_or(requests.message.len(), |(start, _)| *start);
            let datagram = &requests.message.bytes()[chunk[0].0..end];
            let result = self.send(datagram, chunk, &tolerate);
            if first_error.is_ok() {
                first_error = result;
            }
        }
        first_error
    }

    /// Carries out all of `requests` and returns the first error.
    pub fn execute(&mut self, requests: &Requests) -> Result<()> {
        self.execute_tolerating(requests, |_| false)
    }

    /// Sends the messages of `entries`, which are `datagram`.
    fn send(
        &mut self,
        datagram: &[u8],
        entries: &[(usize, &'static str)],
        tolerate: &impl Fn(&Error) -> bool,
    ) -> Result<()> {
        let count = entries.len() as u32;
        let first = self.socket.sequences(count);
        let (mut numbered, origin) = (datagram.to_vec(), entries[0].0);
        for (sequence, (start, _)) in (first..).zip(entries) {
            let at = start - origin + 8;
            numbered[at..at + 4].copy_from_slice(&sequence.to_ne_bytes());
        }
        self.socket.send(&numbered)?;
        let mut result = Ok(());
        self.socket.acknowledgements(first, count, |refusal| {
            let what = entries[(refusal.sequence - first) as usize].1;
            let error = Error::refused(what, refusal.errno, refusal.text);
            if result.is_ok() && !tolerate(&error) {
                result = Err(error);
            }
        })?;
        result
    }
}
