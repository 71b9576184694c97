//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// Looks until `condition` holds and returns what it gives. Panics after `limit` with what was
/// seen last.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    loop {
        let seen = match condition() {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(begin.elapsed() < limit, "gave up waiting for {what}; last seen: {seen}");
        std::thread::sleep(LOOK);
    }
}
