//! A connection to nf_tables: commits batches, and says which request of one was refused.

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::batch::Batch;
use super::datatype::describe;
use super::uapi::{
    CHAIN_NAME, DATA_VALUE, DELCHAIN, DELRULE, DELSET, DELSETELEM, DELTABLE, ELEMENT_KEY,
    ELEMENTS_LIST, ELEMENTS_SET, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWTABLE, RULE_CHAIN,
    SET_NAME, SUBSYSTEM, TABLE,
};
use crate::error::{Error, Result};
use crate::message::{Attribute, Attributes, HEADER_LEN, messages};
use crate::netns::Netns;
use crate::socket::{Refusal, Socket};

/// `struct nfgenmsg`.
pub(super) const GENERIC_LEN: usize = 4;
/// Room for the refusals of a large batch, which all come at once.
const RECEIVE_BUFFER: libc::c_int = 1 << 20;

/// A socket to nf_tables of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Nft {
    pub(super) socket: Socket,
}

impl Nft {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let socket = Socket::open(NETLINK_NETFILTER)?;
        socket.reserve_receive(RECEIVE_BUFFER);
        Ok(Self { socket })
    }

    /// Opens a socket inside `netns`. The calling thread stays where it is.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.run(Self::open).map_err(Error::socket("enter the network namespace"))?
    }

    /// Carries out a batch, or nothing of it. The error is that of the first refused request.
    pub fn commit(&mut self, mut batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.finish();
        self.socket.send(bytes)?;
        let (mut first, mut more) = (None, 0usize);
        self.socket.refusals(|refusal| match first {
            None => first = Some(refusal),
            Some(_) => more += 1,
        })?;
        let Some(refusal) = first else { return Ok(()) };
        let mut request = describe_request(bytes, &refusal);
        if more > 0 {
            request.push_str(&format!(" (and {more} more refused)"));
        }
        Err(Error::refused(request, refusal.errno, refusal.text))
    }
}

/// What the refused request was to do.
fn describe_request(batch: &[u8], refusal: &Refusal) -> String {
    let found = messages(batch).find(|(header, _)| header.sequence == refusal.sequence);
    let Some((header, payload)) = found else { return "nf_tables batch".into() };
    let (verb, object, name) = match header.kind ^ SUBSYSTEM {
        NEWTABLE => ("add", "table", None),
        DELTABLE => ("delete", "table", None),
        NEWCHAIN => ("add", "chain", Some(CHAIN_NAME)),
        DELCHAIN => ("delete", "chain", Some(CHAIN_NAME)),
        NEWRULE => ("add", "rule of chain", Some(RULE_CHAIN)),
        DELRULE => ("delete", "rules of chain", Some(RULE_CHAIN)),
        NEWSET => ("add", "set", Some(SET_NAME)),
        DELSET => ("delete", "set", Some(SET_NAME)),
        NEWSETELEM => ("add", "elements of set", Some(ELEMENTS_SET)),
        DELSETELEM => ("delete", "elements of set", Some(ELEMENTS_SET)),
        _ => return "nf_tables batch".into(),
    };
    let attributes = Attributes(payload.get(GENERIC_LEN..).unwrap_or_default());
    let text = |kind| attributes.get(kind).and_then(|a| a.str()).unwrap_or_default();
    let mut words = format!("{verb} {object} {}", text(TABLE));
    if let Some(name) = name {
        words = format!("{words} {}", text(name));
    }
    if object == "elements of set"
        && let Some(key) = refused_key(payload, attributes, refusal)
    {
        words = format!("{words} {{ {} }}", describe(key));
    }
    words
}

/// The key of the element that the refusal's offset points into.
fn refused_key<'a>(
    payload: &'a [u8],
    attributes: Attributes<'a>,
    refusal: &Refusal,
) -> Option<&'a [u8]> {
    let offset = (refusal.offset? as usize).checked_sub(HEADER_LEN)?;
    let position = |a: &Attribute<'_>| a.payload.as_ptr() as usize - payload.as_ptr() as usize;
    let mut elements = attributes.get(ELEMENTS_LIST)?.nested();
    let element =
        elements.find(|e| (position(e) - 4..position(e) + e.payload.len()).contains(&offset))?;
    Some(element.nested().get(ELEMENT_KEY)?.nested().get(DATA_VALUE)?.payload)
}
