//! Schedules of CronJobs: five fields or a descriptor, as `github.com/robfig/cron/v3` reads them
//! in its standard form, in time zones that come with the binary.

mod fields;
mod zone;

use jiff::{
    SignedDuration, Timestamp, ToSpan as _,
    civil::{Date, DateTime, Weekday},
    tz::TimeZone,
};

use self::fields::Field;
pub use self::zone::{UnknownZone, local_zone, zone};

/// Why a text is no schedule, worded as upstream's parser does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// When a job is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    times: Times,
    /// The zone that the text itself names, which it should not.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Times {
    /// At these minutes, hours, days and months.
    Fields { minute: Field, hour: Field, day: Field, month: Field, weekday: Field },
    /// Again and again after this time.
    Every(SignedDuration),
}

/// How far ahead a time is looked for: a 29th of February comes within eight years.
const YEARS: i16 = 8;

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let bad = |why: String| Err(ParseError(why));
        if text.is_empty() {
            return bad("empty spec string".to_owned());
        }
        let (mut rest, mut named) = (text, None);
        if let Some(name) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            let Some((name, tail)) = name.split_once(' ') else {
                return bad("invalid schedule format: no fields after the time zone".to_owned());
            };
            match zone(name) {
                Ok(zone) => named = Some(zone),
                Err(error) => return bad(format!("provided bad location {name}: {error}")),
            }
            rest = tail.trim();
        }
        let times = match rest.strip_prefix('@') {
            Some(_) => descriptor(rest)?,
            None => Self::fields(rest)?,
        };
        Ok(Self { times, zone: named })
    }

    fn fields(text: &str) -> Result<Times, ParseError> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(ParseError(format!(
                "expected exactly 5 fields, found {}: [{}]",
                parts.len(),
                parts.join(" ")
            )));
        };
        Ok(Times::Fields {
            minute: Field::parse(minute, fields::MINUTES)?,
            hour: Field::parse(hour, fields::HOURS)?,
            day: Field::parse(day, fields::DAYS)?,
            month: Field::parse(month, fields::MONTHS)?,
            weekday: Field::parse(weekday, fields::WEEKDAYS)?,
        })
    }

    /// The first time after `after` at which the job is due, by the clocks of `zone`. None when
    /// that never comes, such as on a 30th of February.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (minute, hour, day, month, weekday) = match &self.times {
            Times::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                return whole.checked_add(*period).ok();
            }
            Times::Fields { minute, hour, day, month, weekday } => {
                (minute, hour, day, month, weekday)
            }
        };
        let zone = self.zone.as_ref().unwrap_or(zone);
        let start = zone.to_datetime(after);
        let mut date = start.date();
        let last = date.year().saturating_add(YEARS);
        while date.year() <= last {
            if !month.has(date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
                continue;
            }
            if matches_day(day, weekday, date) {
                for time in times(minute, hour, date) {
                    // A time that the clocks skip is the one after the gap; one that comes twice
                    // is the first.
                    let at = zone.to_timestamp(time).ok()?;
                    if at > after {
                        return Some(at);
                    }
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }
}

/// Where both days are narrowed down, either will do.
fn matches_day(day: &Field, weekday: &Field, date: Date) -> bool {
    let of_month = day.has(date.day());
    let of_week = weekday.has(match date.weekday() {
        Weekday::Sunday => 0,
        other => other.to_monday_one_offset(),
    });
    if day.any() || weekday.any() { of_month && of_week } else { of_month || of_week }
}

fn times<'a>(
    minute: &'a Field,
    hour: &'a Field,
    date: Date,
) -> impl Iterator<Item = DateTime> + 'a {
    (0..24)
        .filter(|h| hour.has(*h))
        .flat_map(move |h| (0..60).filter(|m| minute.has(*m)).map(move |m| date.at(h, m, 0, 0)))
}

fn descriptor(text: &str) -> Result<Times, ParseError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => {
            let Some(period) = other.strip_prefix("@every ") else {
                return Err(ParseError(format!("unrecognized descriptor: {text}")));
            };
            let period = apimachinery::time::parse_duration(period)
                .map_err(|why| ParseError(format!("failed to parse duration {text}: {why}")))?;
            let seconds = SignedDuration::from_nanos(period).as_secs();
            return Ok(Times::Every(SignedDuration::from_secs(seconds.max(1))));
        }
    };
    Schedule::fields(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, name: &str) -> String {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let zone = zone(name).expect("a zone");
        let after: Timestamp = after.parse().expect("a time");
        schedule.next(after, &zone).map_or_else(|| "never".to_owned(), |at| at.to_string())
    }

    #[test]
    fn the_next_time_is_found() {
        let utc = |schedule: &str, after: &str| next(schedule, after, "UTC");
        for (schedule, after, expected) in [
            ("*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
            ("*/15 * * * *", "2026-01-01T00:59:59Z", "2026-01-01T01:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", "never"),
            ("30 4 1,15 * 5", "2026-01-02T05:00:00Z", "2026-01-09T04:30:00Z"),
            ("30 4 * * 5", "2026-01-02T05:00:00Z", "2026-01-09T04:30:00Z"),
            ("5-10/2 3 * jan,MAR mon", "2026-02-01T00:00:00Z", "2026-03-02T03:05:00Z"),
            ("@monthly", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:00.5Z", "2026-01-01T01:30:00Z"),
            ("0 0 * * ?", "2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(schedule, after), expected, "{schedule}");
        }
    }

    #[test]
    fn clocks_of_zones_are_followed() {
        let berlin = |schedule: &str, after: &str| next(schedule, after, "Europe/Berlin");
        assert_eq!(berlin("0 12 * * *", "2026-07-01T00:00:00Z"), "2026-07-01T10:00:00Z");
        assert_eq!(berlin("0 12 * * *", "2026-01-01T00:00:00Z"), "2026-01-01T11:00:00Z");
        // There is no 02:30 on the night when summer time begins.
        assert_eq!(berlin("30 2 29 3 *", "2026-03-01T00:00:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(
            next("TZ=Asia/Tokyo 0 9 * * *", "2026-01-01T12:00:00Z", "UTC"),
            "2026-01-02T00:00:00Z"
        );
    }

    #[test]
    fn errors_are_worded_as_upstreams() {
        for (text, expected) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("-1 * * * *", "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("TZ=No/Where 0 0 * * *", "provided bad location No/Where: unknown time zone No/Where"),
        ] {
            let error = Schedule::parse(text).map_err(|error| error.to_string());
            assert_eq!(error, Err(expected.to_owned()), "{text}");
        }
    }
}
