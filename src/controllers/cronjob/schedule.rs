//! When a CronJob is due, given when it last was.

use std::time::Duration;

use cron::Schedule;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::CronJob;

/// Timers may fire a little early; with this much more they do not.
const MARGIN: SignedDuration = SignedDuration::from_millis(100);
/// More missed times than this are worth a warning.
const MANY: i64 = 100;

/// A CronJob's schedule with the clocks that it goes by.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) schedule: Schedule,
    pub(super) zone: TimeZone,
}

/// The times that have come and were not served.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// The latest of them.
    pub(super) latest: Option<Timestamp>,
    /// Whether there are suspiciously many.
    pub(super) many: bool,
    any: bool,
}

/// The time from which on due times count: the last one that was served, or the creation.
fn earliest(job: &CronJob) -> Timestamp {
    let last = job.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let made = job.metadata.creation_timestamp.as_ref();
    last.or(made).map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

impl Times {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }

    fn missed_since(&self, earliest: Timestamp, now: Timestamp) -> Missed {
        let Some(first) = self.next(earliest).filter(|first| *first <= now) else {
            return Missed::default();
        };
        let any = true;
        let Some(second) = self.next(first).filter(|second| *second <= now) else {
            return Missed { latest: Some(first), many: false, any };
        };
        // Counted by the distance of the first two, as if all were as far apart: walking from one
        // to the next through years of minutes would take too long.
        let period = second.duration_since(first).as_secs().max(1);
        let count = now.duration_since(first).as_secs() / period + 1;
        let skipped = SignedDuration::from_secs((count - 2).saturating_mul(period));
        let mut at = first.checked_add(skipped).unwrap_or(first);
        let mut latest = None;
        while let Some(next) = self.next(at).filter(|next| *next <= now) {
            latest = Some(next);
            at = next;
        }
        Missed { latest, many: count > MANY, any }
    }

    /// What was missed, as far back as the job's starting deadline reaches.
    pub(super) fn missed(&self, job: &CronJob, now: Timestamp) -> Missed {
        let deadline = job
            .spec
            .starting_deadline_seconds
            .and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
        let earliest = earliest(job);
        self.missed_since(deadline.map_or(earliest, |deadline| deadline.max(earliest)), now)
    }

    /// How long it is to the next time.
    pub(super) fn wait(&self, job: &CronJob, now: Timestamp) -> Option<Duration> {
        let earliest = earliest(job);
        let missed = self.missed_since(earliest, now);
        let from = missed.latest.unwrap_or(if missed.any { now } else { earliest });
        let next = self.next(from)?.duration_since(now) + MARGIN;
        Some(Duration::try_from(next).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(last: Option<&str>, deadline: Option<i64>) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "", "jobTemplate": {}, "startingDeadlineSeconds": deadline},
            "status": {"lastScheduleTime": last}}))
        .unwrap()
    }

    fn times(schedule: &str) -> Times {
        Times { schedule: Schedule::parse(schedule).unwrap(), zone: TimeZone::UTC }
    }

    #[test]
    fn the_latest_missed_time_is_found() {
        for (schedule, last, deadline, now, expected, many) in [
            ("* * * * *", None, None, "2026-01-01T00:00:59Z", None, false),
            ("* * * * *", None, None, "2026-01-01T00:01:00Z", Some("2026-01-01T00:01:00Z"), false),
            ("* * * * *", None, None, "2026-01-01T00:05:30Z", Some("2026-01-01T00:05:00Z"), false),
            ("* * * * *", None, None, "2026-01-02T00:00:00Z", Some("2026-01-02T00:00:00Z"), true),
            (
                "* * * * *",
                None,
                Some(90),
                "2026-01-02T00:00:00Z",
                Some("2026-01-02T00:00:00Z"),
                false,
            ),
            ("* * * * *", Some("2026-01-01T00:05:00Z"), None, "2026-01-01T00:05:30Z", None, false),
            (
                "0 8 * * 1-5",
                Some("2026-01-02T08:00:00Z"),
                None,
                "2026-01-06T09:00:00Z",
                Some("2026-01-06T08:00:00Z"),
                false,
            ),
        ] {
            let missed = times(schedule).missed(&job(last, deadline), now.parse().unwrap());
            let expected = expected.map(|time| time.parse().unwrap());
            assert_eq!((missed.latest, missed.many), (expected, many), "{schedule} {now}");
        }
    }

    #[test]
    fn the_next_time_is_waited_for() {
        let wait = |schedule: &str, now: &str| {
            times(schedule).wait(&job(None, None), now.parse().unwrap()).map(|d| d.as_millis())
        };
        assert_eq!(wait("* * * * *", "2026-01-01T00:00:40Z"), Some(20_100));
        assert_eq!(wait("0 * * * *", "2026-01-01T00:59:00Z"), Some(60_100));
        assert_eq!(wait("0 0 30 2 *", "2026-01-01T00:59:00Z"), None);
    }
}
