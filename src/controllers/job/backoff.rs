//! How long a Job waits before it replaces failed pods: 10 s, 20 s, 40 s, ... up to ten minutes,
//! counted since the last success.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use apimachinery::Key;
use jiff::Timestamp;

const FIRST: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(600);

/// Failures since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

impl Record {
    /// The record after pods finished at these times.
    pub(super) fn after(self, succeeded: &[Timestamp], failed: &[Timestamp]) -> Self {
        let success = succeeded.iter().max();
        let newer = failed.iter().filter(|at| success.is_none_or(|success| *at > success));
        let count = u32::try_from(newer.clone().count()).unwrap_or(u32::MAX);
        let last = newer.max().copied();
        match success {
            Some(_) => Self { failures: count, last },
            None if count == 0 => self,
            None => Self { failures: self.failures.saturating_add(count), last },
        }
    }

    /// What is left to wait.
    pub(super) fn remaining(self, now: Timestamp) -> Duration {
        self.last.map_or(Duration::ZERO, |last| remaining(self.failures, last, now))
    }
}

/// What is left to wait after so many failures, the last of them at `last`.
pub(super) fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let wait = FIRST.saturating_mul(1 << (failures - 1).min(10)).min(LAST);
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    wait.saturating_sub(passed)
}

/// The records of all Jobs that run.
#[derive(Default)]
pub(super) struct Records {
    jobs: Mutex<HashMap<Key, Record>>,
}

impl Records {
    pub(super) fn get(&self, job: &Key) -> Record {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(job).copied().unwrap_or_default()
    }

    pub(super) fn set(&self, job: &Key, record: Record) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(job.clone(), record);
    }

    pub(super) fn forget(&self, job: &Key) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn failures_add_up_until_a_success() {
        let record = Record::default().after(&[], &[at(3), at(5)]);
        assert_eq!(record.remaining(at(5)), 2 * FIRST);
        assert_eq!(record.remaining(at(20)), Duration::from_secs(5));
        let record = record.after(&[], &[]).after(&[], &[at(30)]);
        assert_eq!(record.remaining(at(30)), 4 * FIRST);
        let record = record.after(&[at(40)], &[at(39), at(41)]);
        assert_eq!(record.remaining(at(41)), FIRST, "failures before the success are forgotten");
        assert_eq!(record.after(&[at(50)], &[]).remaining(at(50)), Duration::ZERO);
        assert_eq!(remaining(90, at(0), at(0)), LAST);
    }
}
