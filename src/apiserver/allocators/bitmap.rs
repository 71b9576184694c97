//! A set of small numbers from which free ones are drawn at random.

/// Numbers below a size, one bit each.
pub(super) struct Bitmap {
    words: Vec<u64>,
    size: u32,
    /// Below this, numbers are drawn only when nothing above is left: that part is for those who
    /// ask for a certain number (KEP 3070, 3668).
    reserved: u32,
}

impl Bitmap {
    pub(super) fn new(size: u32, reserved: u32) -> Self {
        Self { words: vec![0; size.div_ceil(64) as usize], size, reserved: reserved.min(size) }
    }

    fn get(&self, at: u32) -> bool {
        self.words[at as usize / 64] >> (at % 64) & 1 == 1
    }

    /// Whether `at` is taken.
    pub(super) fn is_taken(&self, at: u32) -> bool {
        self.get(at)
    }

    /// Takes `at`; false when it is taken already.
    pub(super) fn take(&mut self, at: u32) -> bool {
        let free = !self.get(at);
        self.words[at as usize / 64] |= 1 << (at % 64);
        free
    }

    pub(super) fn release(&mut self, at: u32) {
        self.words[at as usize / 64] &= !(1 << (at % 64));
    }

    /// Takes a free number; `random` says where to begin to look.
    pub(super) fn take_any(&mut self, random: u32) -> Option<u32> {
        self.take_between(self.reserved, self.size, random)
            .or_else(|| self.take_between(0, self.reserved, random))
    }

    fn take_between(&mut self, low: u32, high: u32, random: u32) -> Option<u32> {
        let width = high.checked_sub(low).filter(|width| *width > 0)?;
        let start = random % width;
        let found =
            (0..width).map(|step| low + (start + step) % width).find(|at| !self.get(*at))?;
        self.take(found);
        Some(found)
    }
}

/// How much of a range is reserved for those who ask: between 16 and `most`, a `part`-th of it.
pub(super) fn reserved(size: u32, part: u32, most: u32) -> u32 {
    if size < 16 { 0 } else { (size / part).clamp(16, most) }
}

/// A random number: where to begin to look, so not of cryptographic worth.
pub(super) fn random() -> u32 {
    uuid::Uuid::new_v4().as_u128() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_drawn_once_and_the_reserved_ones_last() {
        let mut bits = Bitmap::new(100, 20);
        assert!(bits.take(50) && !bits.take(50));
        let drawn: Vec<u32> = std::iter::from_fn(|| bits.take_any(77)).collect();
        assert_eq!(drawn.len(), 99);
        assert!(drawn[..79].iter().all(|at| *at >= 20 && *at != 50));
        assert!(drawn[79..].iter().all(|at| *at < 20));
        bits.release(3);
        assert_eq!(bits.take_any(0), Some(3));
    }

    #[test]
    fn reservations_are_upstreams() {
        assert_eq!(reserved(65_534, 16, 256), 256);
        assert_eq!(reserved(254, 16, 256), 16);
        assert_eq!(reserved(2768, 32, 128), 86);
        assert_eq!(reserved(14, 16, 256), 0);
    }
}
