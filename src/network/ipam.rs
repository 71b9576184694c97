//! Addresses for the pods of this node, from the node's pod network.
//!
//! Nothing is written down: at start the caller says which addresses are in use. An address that
//! was given back comes round again last, so that what still talks to the old pod (a client's
//! cache, a tracked flow) does not reach a new one.

use std::net::Ipv4Addr;

use crate::cidr::Cidr;

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// All addresses are in use.
    #[error("all {usable} pod addresses of {network} are in use")]
    Exhausted {
        /// The node's pod network.
        network: Cidr,
        /// How many addresses it has for pods.
        usable: usize,
    },
}

/// The addresses of a node's pod network. The lowest (the network itself), the one after it (the
/// node's own) and the highest are never given to a pod.
#[derive(Debug)]
pub struct Ipam {
    network: Cidr,
    /// A bit for each address, set while in use.
    taken: Vec<u64>,
    /// Where the search goes on, as a distance from the lowest address.
    next: usize,
    free: usize,
    usable: usize,
}

impl Ipam {
    /// The addresses of `network` of which `in_use` are taken. Others than its own are ignored.
    pub fn new(network: Cidr, in_use: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let size = 1usize << (32 - network.prefix());
        let mut ipam =
            Self { network, taken: vec![0; size.div_ceil(64)], next: 0, free: size, usable: 0 };
        ipam.claim(network.first());
        ipam.claim(network.gateway());
        ipam.claim(network.last());
        ipam.usable = ipam.free;
        for address in in_use {
            if ipam.claim(address) {
                // Addresses are given out upwards: what was freed last is just below.
                ipam.next = ipam.next.max(ipam.distance(address) + 1);
            }
        }
        ipam
    }

    fn size(&self) -> usize {
        1 << (32 - self.network.prefix())
    }

    fn distance(&self, address: Ipv4Addr) -> usize {
        (u32::from(address) - u32::from(self.network.first())) as usize
    }

    fn is_taken(&self, distance: usize) -> bool {
        self.taken[distance / 64] & 1 << (distance % 64) != 0
    }

    /// Takes the next address.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, Error> {
        let size = self.size();
        let free = (0..size).map(|n| (self.next + n) % size).find(|d| !self.is_taken(*d));
        let Some(distance) = free.filter(|_| self.free > 0) else {
            return Err(Error::Exhausted { network: self.network, usable: self.usable });
        };
        self.taken[distance / 64] |= 1 << (distance % 64);
        self.free -= 1;
        self.next = distance + 1;
        Ok(Ipv4Addr::from(u32::from(self.network.first()) + distance as u32))
    }

    /// Takes this address; false if it is taken already or not of this network.
    pub fn claim(&mut self, address: Ipv4Addr) -> bool {
        if !self.network.contains(address) || self.is_taken(self.distance(address)) {
            return false;
        }
        let distance = self.distance(address);
        self.taken[distance / 64] |= 1 << (distance % 64);
        self.free -= 1;
        true
    }

    /// Gives an address back. One that was not taken, or is never given to pods, is ignored.
    pub fn release(&mut self, address: Ipv4Addr) {
        let network = self.network;
        let reserved = [network.first(), network.gateway(), network.last()];
        if reserved.contains(&address) || !network.contains(address) {
            return;
        }
        let distance = self.distance(address);
        if self.is_taken(distance) {
            self.taken[distance / 64] &= !(1 << (distance % 64));
            self.free += 1;
        }
    }

    /// How many addresses are left.
    pub fn available(&self) -> usize {
        self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(cidr: &str, in_use: &[&str]) -> Ipam {
        Ipam::new(cidr.parse().unwrap(), in_use.iter().map(|a| a.parse().unwrap()))
    }

    fn last_byte(ipam: &mut Ipam) -> u8 {
        ipam.allocate().unwrap().octets()[3]
    }

    #[test]
    fn network_gateway_and_broadcast_are_never_given_out() {
        let mut ipam = ipam("10.42.0.0/29", &[]);
        assert_eq!(ipam.available(), 5);
        let mut all: Vec<u8> = (0..5).map(|_| last_byte(&mut ipam)).collect();
        all.sort_unstable();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        let error = ipam.allocate().unwrap_err();
        assert_eq!(error.to_string(), "all 5 pod addresses of 10.42.0.0/29 are in use");
        for reserved in [0, 1, 7] {
            ipam.release(Ipv4Addr::new(10, 42, 0, reserved));
        }
        assert_eq!(ipam.available(), 0);
    }

    #[test]
    fn a_freed_address_comes_round_last() {
        let mut ipam = ipam("10.42.0.0/29", &[]);
        assert_eq!(last_byte(&mut ipam), 2);
        assert_eq!(last_byte(&mut ipam), 3);
        ipam.release(Ipv4Addr::new(10, 42, 0, 2));
        assert_eq!((0..3).map(|_| last_byte(&mut ipam)).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(last_byte(&mut ipam), 2);
    }

    #[test]
    fn what_is_in_use_at_start_stays_so() {
        let mut ipam = ipam("10.42.0.0/24", &["10.42.0.9", "10.42.0.4", "10.43.0.1"]);
        assert_eq!(ipam.available(), 251);
        assert_eq!(last_byte(&mut ipam), 10, "not an address that was freed just before");
        assert!(!ipam.claim(Ipv4Addr::new(10, 42, 0, 9)));
        ipam.release(Ipv4Addr::new(10, 42, 0, 9));
        ipam.release(Ipv4Addr::new(10, 42, 0, 9));
        assert_eq!(ipam.available(), 251);
        assert!(ipam.claim(Ipv4Addr::new(10, 42, 0, 9)));
    }

    #[test]
    fn tiny_networks_have_nothing_to_give() {
        assert_eq!(ipam("10.42.0.0/32", &[]).available(), 0);
        assert!(ipam("10.42.0.0/31", &[]).allocate().is_err());
        assert_eq!(ipam("10.42.0.0/16", &[]).available(), 65_533);
    }
}
