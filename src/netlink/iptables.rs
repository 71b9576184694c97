//! The filter table of the old packet filter, iptables "legacy", which has no netlink interface.
//!
//! Read only, by the socket options that the `iptables-legacy` tool uses
//! (`linux/netfilter_ipv4/ip_tables.h`).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SO_GET_INFO: libc::c_int = 64;
const SO_GET_ENTRIES: libc::c_int = 65;
/// The names of the tables of this network namespace.
const TABLES: &str = "/proc/thread-self/net/ip_tables_names";
const NAME: &[u8] = b"filter";
const NAME_LEN: usize = 32;

/// `struct ipt_getinfo`.
#[repr(C)]
struct Info {
    name: [u8; NAME_LEN],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    entries: u32,
    size: u32,
}

/// Size of the head of `struct ipt_get_entries`: a name and a number, filled to eight bytes.
const ENTRIES_HEAD: usize = 40;
/// Sizes and places in `struct ipt_entry`, which begins with addresses, interfaces and protocol.
const CONDITIONS_LEN: usize = 84;
const ENTRY_LEN: usize = 112;
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
/// Size of `struct xt_entry_target`, before a standard target's verdict.
const TARGET_LEN: usize = 32;
/// The verdicts of standard targets.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;

/// A built-in chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// Packets for processes of this host.
    Input = 1,
    /// Packets on their way through.
    Forward = 2,
}

/// A built-in chain that drops what no rule accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropping {
    /// Which it is.
    pub chain: Chain,
    /// The networks, by address and mask, that rules are about which do not drop and which a packet
    /// may meet in this chain.
    pub accepted: Vec<(Ipv4Addr, Ipv4Addr)>,
}

/// The chains of the filter table that drop, in the calling thread's network namespace. To ask the
/// kernel for a table that is not there would make it, so that is looked up elsewhere first.
pub fn dropping() -> io::Result<Vec<Dropping>> {
    let tables = match std::fs::read_to_string(TABLES) {
        Ok(tables) => tables,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if !tables.lines().any(|table| table.as_bytes() == NAME) {
        return Ok(Vec::new());
    }
    // SAFETY: takes no pointers; the descriptor is new and owned here alone.
    let socket = unsafe {
        let fd =
            libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: plain numbers, for which zeros are fine.
    let mut info: Info = unsafe { std::mem::zeroed() };
    info.name[..NAME.len()].copy_from_slice(NAME);
    get(&socket, SO_GET_INFO, (&raw mut info).cast(), size_of::<Info>())?;
    let size = info.size as usize;
    // Words of eight bytes, for the alignment that the kernel's structure has.
    let mut words = vec![0u64; (ENTRIES_HEAD + size).div_ceil(8)];
    words[..4].copy_from_slice(&[u64::from_ne_bytes(*b"filter\0\0"), 0, 0, 0]);
    words[4] = u64::from_ne_bytes(size_word(info.size));
    get(&socket, SO_GET_ENTRIES, words.as_mut_ptr().cast(), ENTRIES_HEAD + size)?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (begin, end) = (info.hook_entry, info.underflow);
    Ok(read(&bytes[ENTRIES_HEAD..ENTRIES_HEAD + size], begin, end))
}

fn size_word(size: u32) -> [u8; 8] {
    let mut word = [0; 8];
    word[..4].copy_from_slice(&size.to_ne_bytes());
    word
}

fn get(
    socket: &OwnedFd,
    option: libc::c_int,
    to: *mut libc::c_void,
    size: usize,
) -> io::Result<()> {
    let mut length = size as libc::socklen_t;
    // SAFETY: callers pass memory of `size` bytes; the kernel writes no more.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, to, &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a rule says.
enum Outcome {
    Drop,
    Accept,
    /// Another chain decides.
    Jump,
    Other,
}

/// Reads the table's entries. Each says where the next one is. A built-in chain goes from its
/// `begin` to its `end`, which is the entry that has its policy.
fn read(entries: &[u8], begin: [u32; 5], end: [u32; 5]) -> Vec<Dropping> {
    let mut chains = [Chain::Input, Chain::Forward]
        .map(|chain| (false, Dropping { chain, accepted: Vec::new() }));
    let within =
        |chain: usize, at: usize| (begin[chain] as usize..=end[chain] as usize).contains(&at);
    let mut at = 0;
    while let Some(entry) = entries.get(at..).filter(|rest| rest.len() >= ENTRY_LEN) {
        let short = |at: usize| usize::from(u16::from_ne_bytes([entry[at], entry[at + 1]]));
        let address =
            |at: usize| Ipv4Addr::new(entry[at], entry[at + 1], entry[at + 2], entry[at + 3]);
        let target = short(TARGET_OFFSET);
        let outcome = outcome(entry.get(target..).unwrap_or_default());
        // No addresses, interfaces or protocols, and no matches between entry and target.
        let unconditional =
            target == ENTRY_LEN && entry[..CONDITIONS_LEN].iter().all(|byte| *byte == 0);
        let built_in = (0..begin.len()).find(|chain| within(*chain, at));
        for (drops, dropping) in &mut chains {
            if built_in.is_some_and(|chain| chain != dropping.chain as usize) {
                continue;
            }
            match outcome {
                Outcome::Drop => *drops |= unconditional && built_in.is_some(),
                Outcome::Accept | Outcome::Jump => {
                    let networks = [(address(0), address(8)), (address(4), address(12))];
                    let named = networks.into_iter().filter(|(_, mask)| !mask.is_unspecified());
                    dropping.accepted.extend(named);
                }
                Outcome::Other => {}
            }
        }
        match short(NEXT_OFFSET) {
            0 => break,
            length => at += length,
        }
    }
    chains.into_iter().filter(|(drops, _)| *drops).map(|(_, dropping)| dropping).collect()
}

/// What a target says: a standard one, whose name is empty, by its verdict, another by its name.
fn outcome(target: &[u8]) -> Outcome {
    let Some(name) = target.get(2..TARGET_LEN - 1) else { return Outcome::Other };
    if name.starts_with(b"REJECT\0") {
        return Outcome::Drop;
    }
    match target.get(TARGET_LEN..TARGET_LEN + 4).filter(|_| name[0] == 0) {
        Some(verdict) => match i32::from_ne_bytes([verdict[0], verdict[1], verdict[2], verdict[3]])
        {
            DROP => Outcome::Drop,
            ACCEPT => Outcome::Accept,
            verdict if verdict >= 0 => Outcome::Jump,
            _ => Outcome::Other,
        },
        None => Outcome::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Netns;

    #[test]
    fn a_namespace_without_the_table_is_not_given_one() {
        let netns = Netns::create().expect("namespaces need root");
        let (found, tables) = netns
            .run(|| (dropping().unwrap(), std::fs::read_to_string(TABLES).unwrap_or_default()))
            .unwrap();
        assert_eq!(found, []);
        assert_eq!(tables, "");
    }

    #[test]
    fn policies_and_networks_are_read() {
        let entry = |source: [u8; 4], mask: [u8; 4], verdict: i32| {
            let mut entry = vec![0; ENTRY_LEN + TARGET_LEN + 8];
            entry[0..4].copy_from_slice(&source);
            entry[8..12].copy_from_slice(&mask);
            let next = entry.len() as u16;
            entry[TARGET_OFFSET..][..2].copy_from_slice(&(ENTRY_LEN as u16).to_ne_bytes());
            entry[NEXT_OFFSET..][..2].copy_from_slice(&next.to_ne_bytes());
            entry[ENTRY_LEN + TARGET_LEN..][..4].copy_from_slice(&verdict.to_ne_bytes());
            entry
        };
        let any = entry([0; 4], [0; 4], ACCEPT);
        let pods = entry([10, 42, 0, 0], [255, 255, 0, 0], ACCEPT);
        let drop = entry([0; 4], [0; 4], DROP);
        let one = any.len() as u32;
        let network = (Ipv4Addr::new(10, 42, 0, 0), Ipv4Addr::new(255, 255, 0, 0));
        let expected = |accepted| vec![Dropping { chain: Chain::Forward, accepted }];
        // Input: its policy; forward: a rule and its policy.
        let (begin, end) = ([9999, 0, one, 9999, 9999], [9999, 0, 2 * one, 9999, 9999]);
        let read = |rules: [&Vec<u8>; 3]| read(&rules.map(Clone::clone).concat(), begin, end);
        assert_eq!(read([&any, &any, &any]), []);
        assert_eq!(read([&any, &pods, &drop]), expected(vec![network]));
        assert_eq!(read([&any, &drop, &any]), expected(vec![]));
        // An exception of another chain is none.
        assert_eq!(read([&pods, &any, &drop]), expected(vec![]));
        assert_eq!(super::read(&[1, 2, 3], begin, end), []);
    }
}
