//! Node ports of Services. A port is one number for all protocols, as upstream counts them: only
//! within one Service may TCP and UDP share it.

use std::{
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use super::{
    AllocationError,
    bitmap::{Bitmap, random, reserved},
};

/// The ports of a range.
pub struct Ports {
    range: RangeInclusive<u16>,
    taken: Mutex<Bitmap>,
}

impl Ports {
    /// All ports of `range` are free.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let count = u32::try_from(range.len()).unwrap_or_default();
        Self { range, taken: Mutex::new(Bitmap::new(count, reserved(count, 32, 128))) }
    }

    fn offset(&self, port: u16) -> Option<u32> {
        self.range.contains(&port).then(|| u32::from(port - self.range.start()))
    }

    /// Takes this port.
    ///
    /// # Errors
    /// When it is taken, or not one of the range.
    pub fn take(&self, port: u16) -> Result<(), AllocationError> {
        let Some(offset) = self.offset(port) else {
            let (first, last) = (self.range.start(), self.range.end());
            return Err(AllocationError::OutOfRange(format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )));
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.take(offset) { Ok(()) } else { Err(AllocationError::Taken("port")) }
    }

    /// Whether this port is taken.
    pub fn is_taken(&self, port: i64) -> bool {
        let offset = u16::try_from(port).ok().and_then(|port| self.offset(port));
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        offset.is_some_and(|offset| taken.is_taken(offset))
    }

    /// Takes any free port.
    ///
    /// # Errors
    /// When none is left.
    pub fn take_any(&self) -> Result<u16, AllocationError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = taken.take_any(random()).ok_or(AllocationError::Full)?;
        Ok(self.range.start() + offset as u16)
    }

    /// Gives a port back.
    pub fn release(&self, port: u16) {
        if let Some(offset) = self.offset(port) {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).release(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_unique_and_within_the_range() {
        let ports = Ports::new(30_000..=30_003);
        ports.take(30_001).unwrap();
        assert_eq!(ports.take(30_001), Err(AllocationError::Taken("port")));
        assert!(matches!(ports.take(80), Err(AllocationError::OutOfRange(_))));
        let drawn = std::iter::from_fn(|| ports.take_any().ok()).count();
        assert_eq!(drawn, 3);
        assert_eq!(ports.take_any(), Err(AllocationError::Full));
        ports.release(30_001);
        assert_eq!(ports.take_any(), Ok(30_001));
    }
}
