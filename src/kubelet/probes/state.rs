//! When a row of results becomes a verdict.

/// Counts results in a row.
#[derive(Debug)]
pub(super) struct ProbeState {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<bool>,
    run: u32,
}

/// What a result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Not enough of them in a row yet.
    Below,
    /// The threshold is reached, now or before.
    Crossed(bool),
}

impl ProbeState {
    pub(super) fn new(success_threshold: i32, failure_threshold: i32) -> Self {
        let positive = |n: i32| u32::try_from(n).unwrap_or(1).max(1);
        Self {
            success_threshold: positive(success_threshold),
            failure_threshold: positive(failure_threshold),
            last: None,
            run: 0,
        }
    }

    pub(super) fn record(&mut self, healthy: bool) -> Event {
        if self.last == Some(healthy) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(healthy);
            self.run = 1;
        }
        let threshold = if healthy { self.success_threshold } else { self.failure_threshold };
        if self.run < threshold { Event::Below } else { Event::Crossed(healthy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_results_in_a_row() {
        let mut state = ProbeState::new(2, 3);
        let results = [true, false, true, true, false, false, false, false, true];
        let events: Vec<_> = results.into_iter().map(|r| state.record(r)).collect();
        use Event::{Below, Crossed};
        let want = [
            Below,
            Below,
            Below,
            Crossed(true),
            Below,
            Below,
            Crossed(false),
            Crossed(false),
            Below,
        ];
        assert_eq!(events, want);
    }
}
