//! How long a container that ended waits before it is started again: 10 s, doubled each time up to
//! a maximum, and forgotten when it ran well for twice the maximum.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

const FIRST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    /// When the container was last started after it had ended.
    updated: Timestamp,
}

/// The back-offs of a pod's containers. A changed container (image, resources) starts anew.
#[derive(Debug)]
pub(crate) struct CrashBackoff {
    max: Duration,
    entries: HashMap<String, Entry>,
}

/// A container that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) delay: Duration,
    pub(crate) until: Timestamp,
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

impl CrashBackoff {
    pub(crate) fn new(max: Duration) -> Self {
        Self { max, entries: HashMap::new() }
    }

    fn forgotten(&self, entry: &Entry, finished: Timestamp) -> bool {
        finished > after(entry.updated, 2 * self.max)
    }

    /// Whether a container that ended at `finished` has to wait.
    pub(crate) fn waiting(
        &self,
        key: &str,
        finished: Timestamp,
        now: Timestamp,
    ) -> Option<Waiting> {
        let entry = self.entries.get(key)?;
        let until = after(finished, entry.delay);
        if self.forgotten(entry, finished) || until <= now {
            return None;
        }
        Some(Waiting { delay: entry.delay, until })
    }

    /// The container is started again.
    pub(crate) fn restarted(&mut self, key: &str, finished: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.forgotten(entry, finished) => (entry.delay * 2).min(self.max),
            _ => FIRST.min(self.max),
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_are_forgotten() {
        let mut backoff = CrashBackoff::new(Duration::from_secs(300));
        let mut now = Timestamp::from_second(1_000_000).unwrap();
        let mut delays = Vec::new();
        for _ in 0..8 {
            let finished = after(now, Duration::from_secs(1));
            let waiting = backoff.waiting("c", finished, finished);
            delays.push(waiting.map_or(0, |w| w.delay.as_secs()));
            now = waiting.map_or(finished, |w| w.until);
            assert_eq!(backoff.waiting("c", finished, now), None);
            backoff.restarted("c", finished, now);
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        let long_after = after(now, Duration::from_secs(601));
        assert_eq!(backoff.waiting("c", long_after, long_after), None);
        backoff.restarted("c", long_after, long_after);
        assert_eq!(
            backoff.waiting("c", long_after, long_after).map(|w| w.delay.as_secs()),
            Some(10)
        );
    }
}
