//! Cluster addresses of Services: IPv4 from one CIDR.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use super::{
    AllocationError,
    bitmap::{Bitmap, random, reserved},
};

/// What is wrong with a service CIDR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 network of at least two addresses for Services")]
pub struct CidrError(String);

/// The addresses of a CIDR, without that of the network and the broadcast.
pub struct Addresses {
    cidr: String,
    /// The first address that may be given out.
    first: u32,
    count: u32,
    taken: Mutex<Bitmap>,
}

impl Addresses {
    /// All addresses of `cidr` are free.
    ///
    /// # Errors
    /// When it is no IPv4 CIDR.
    pub fn new(cidr: &str) -> Result<Self, CidrError> {
        let bad = || CidrError(cidr.to_owned());
        let (address, length) = cidr.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let length: u32 = length.parse().map_err(|_| bad())?;
        if !(12..=30).contains(&length) {
            return Err(bad());
        }
        let size = 1_u32 << (32 - length);
        let network = u32::from(address) & !(size - 1);
        let count = size - 2;
        let taken = Mutex::new(Bitmap::new(count, reserved(count, 16, 256)));
        Ok(Self {
            cidr: format!("{}/{length}", Ipv4Addr::from(network)),
            first: network + 1,
            count,
            taken,
        })
    }

    /// The range, as given.
    pub fn cidr(&self) -> &str {
        &self.cidr
    }

    /// The first address: that of the `kubernetes` Service.
    pub fn first(&self) -> Ipv4Addr {
        self.first.into()
    }

    fn offset(&self, address: &str) -> Option<u32> {
        let address: Ipv4Addr = address.parse().ok()?;
        u32::from(address).checked_sub(self.first).filter(|offset| *offset < self.count)
    }

    /// The address of the range itself, which nothing has.
    pub fn network(&self) -> Ipv4Addr {
        (self.first - 1).into()
    }

    /// Whether this address is one of the range.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, address: &str) -> Result<u32, AllocationError> {
        self.offset(address).ok_or_else(|| {
            AllocationError::OutOfRange(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                self.cidr
            ))
        })
    }

    /// Takes this address.
    ///
    /// # Errors
    /// When it is taken, or not one of the range.
    pub fn take(&self, address: &str) -> Result<(), AllocationError> {
        let offset = self.check(address)?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.take(offset) { Ok(()) } else { Err(AllocationError::Taken("IP")) }
    }

    /// Takes any free address.
    ///
    /// # Errors
    /// When none is left.
    pub fn take_any(&self) -> Result<Ipv4Addr, AllocationError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = taken.take_any(random()).ok_or(AllocationError::Full)?;
        Ok((self.first + offset).into())
    }

    /// Gives an address back.
    pub fn release(&self, address: &str) {
        if let Some(offset) = self.offset(address) {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).release(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_within_the_range() {
        let all = Addresses::new("10.43.0.0/28").unwrap();
        assert_eq!(all.first(), Ipv4Addr::new(10, 43, 0, 1));
        all.take("10.43.0.1").unwrap();
        assert_eq!(all.take("10.43.0.1"), Err(AllocationError::Taken("IP")));
        for outside in ["10.43.0.0", "10.43.0.15", "10.44.0.1", "::1", "x"] {
            assert!(matches!(all.take(outside), Err(AllocationError::OutOfRange(_))), "{outside}");
        }
        let mut drawn: Vec<_> = std::iter::from_fn(|| all.take_any().ok()).collect();
        drawn.sort();
        assert_eq!(drawn.len(), 13);
        assert_eq!(drawn[12], Ipv4Addr::new(10, 43, 0, 14));
        all.release("10.43.0.7");
        assert_eq!(all.take_any().unwrap(), Ipv4Addr::new(10, 43, 0, 7));
    }

    #[test]
    fn other_ranges_are_refused() {
        for cidr in ["10.43.0.0", "10.43.0.0/31", "10.0.0.0/8", "fd00::/112", "/16"] {
            assert!(Addresses::new(cidr).is_err(), "{cidr}");
        }
        assert_eq!(Addresses::new("10.43.7.9/16").unwrap().cidr(), "10.43.0.0/16");
    }
}
