//! Node ports of Services, apart for each protocol.

use std::{
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use super::{
    AllocationError,
    bitmap::{Bitmap, random, reserved},
};

/// The protocols of Service ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Reads a port's `protocol`.
    pub fn of(text: Option<&str>) -> Self {
        match text {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }
}

/// The ports of a range.
pub struct Ports {
    range: RangeInclusive<u16>,
    taken: Mutex<[Bitmap; 3]>,
}

impl Ports {
    /// All ports of `range` are free.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let count = u32::try_from(range.len()).unwrap_or_default();
        let bitmap = || Bitmap::new(count, reserved(count, 32, 128));
        Self { range, taken: Mutex::new([bitmap(), bitmap(), bitmap()]) }
    }

    fn offset(&self, port: u16) -> Option<u32> {
        self.range.contains(&port).then(|| u32::from(port - self.range.start()))
    }

    /// Takes this port.
    ///
    /// # Errors
    /// When it is taken, or not one of the range.
    pub fn take(&self, port: u16, protocol: Protocol) -> Result<(), AllocationError> {
        let Some(offset) = self.offset(port) else {
            let (first, last) = (self.range.start(), self.range.end());
            return Err(AllocationError::OutOfRange(format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )));
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken[protocol as usize].take(offset) {
            true => Ok(()),
            false => Err(AllocationError::Taken("port")),
        }
    }

    /// Takes any free port.
    ///
    /// # Errors
    /// When none is left.
    pub fn take_any(&self, protocol: Protocol) -> Result<u16, AllocationError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = taken[protocol as usize].take_any(random()).ok_or(AllocationError::Full)?;
        Ok(self.range.start() + offset as u16)
    }

    /// Gives a port back.
    pub fn release(&self, port: u16, protocol: Protocol) {
        if let Some(offset) = self.offset(port) {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner)[protocol as usize]
                .release(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_ports_of_their_own() {
        let ports = Ports::new(30_000..=30_003);
        ports.take(30_001, Protocol::Tcp).unwrap();
        ports.take(30_001, Protocol::Udp).unwrap();
        assert_eq!(ports.take(30_001, Protocol::Tcp), Err(AllocationError::Taken("port")));
        assert!(matches!(ports.take(80, Protocol::Tcp), Err(AllocationError::OutOfRange(_))));
        let drawn = std::iter::from_fn(|| ports.take_any(Protocol::Tcp).ok()).count();
        assert_eq!(drawn, 3);
        assert_eq!(ports.take_any(Protocol::Tcp), Err(AllocationError::Full));
        ports.release(30_001, Protocol::Tcp);
        assert_eq!(ports.take_any(Protocol::Tcp), Ok(30_001));
    }
}
