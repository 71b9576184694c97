//! Points in time and durations as the API writes them: metav1.Time (RFC 3339, whole seconds),
//! metav1.MicroTime (exactly six decimals) and metav1.Duration (Go's `1h2m3.5s`), always in UTC,
//! parsed as strictly as Go's time package does.

use jiff::Timestamp;

/// Why a string is no time or duration; the texts are those of Go's time package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimeError(String);

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The present as metav1.Time writes it: `2026-01-02T03:04:05Z`.
pub fn now() -> String {
    format_seconds(Timestamp::now())
}

/// The present as metav1.MicroTime writes it: `2026-01-02T03:04:05.000006Z`.
pub fn now_micro() -> String {
    format_micros(Timestamp::now())
}

/// A time as metav1.Time writes it; fractions of a second are cut off.
pub fn format_seconds(time: Timestamp) -> String {
    Instant::from(time).seconds_text()
}

/// A time as metav1.MicroTime writes it; fractions of a microsecond are cut off.
pub fn format_micros(time: Timestamp) -> String {
    Instant::from(time).micros_text()
}

/// Reads a metav1.Time: RFC 3339 in any zone, with any number of decimals. Times on the last day
/// of year 9999, which a Timestamp cannot hold, become the latest one that it can.
pub fn parse_seconds(text: &str) -> Result<Timestamp, TimeError> {
    Ok(Layout { layout: SECONDS, text, rest: text }.parse(None)?.timestamp())
}

/// Reads a metav1.MicroTime: RFC 3339 in any zone, with exactly six decimals.
pub fn parse_micros(text: &str) -> Result<Timestamp, TimeError> {
    Ok(Layout { layout: MICROS, text, rest: text }.parse(Some(6))?.timestamp())
}

/// A metav1.Time as the API server stores it: in UTC, whole seconds. None for Go's zero time,
/// which is stored as null.
pub fn canonical_seconds(text: &str) -> Result<Option<String>, TimeError> {
    let time = Layout { layout: SECONDS, text, rest: text }.parse(None)?;
    Ok((time != Instant::ZERO).then(|| time.seconds_text()))
}

/// A metav1.MicroTime as the API server stores it: in UTC, six decimals. None for Go's zero time.
pub fn canonical_micros(text: &str) -> Result<Option<String>, TimeError> {
    let time = Layout { layout: MICROS, text, rest: text }.parse(Some(6))?;
    Ok((time != Instant::ZERO).then(|| time.micros_text()))
}

/// A point in time of any year that four digits can write.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Instant {
    /// Since 1970, never fractional downwards: -0.5 s is second -1 and half a billion nanos.
    seconds: i64,
    nanos: u32,
}

impl Instant {
    /// The first instant of year 1, which Go takes for "no time".
    const ZERO: Instant = Instant { seconds: -62_135_596_800, nanos: 0 };

    fn timestamp(self) -> Timestamp {
        let limit = if self.seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::new(self.seconds, self.nanos as i32).unwrap_or(limit)
    }

    fn seconds_text(self) -> String {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    fn micros_text(self) -> String {
        let mut text = self.seconds_text();
        text.truncate(text.len() - 1);
        text.push_str(&format!(".{:06}Z", self.nanos / 1000));
        text
    }
}

impl From<Timestamp> for Instant {
    fn from(time: Timestamp) -> Self {
        let nanos = time.as_nanosecond();
        Instant {
            seconds: nanos.div_euclid(1_000_000_000) as i64,
            nanos: nanos.rem_euclid(1_000_000_000) as u32,
        }
    }
}

/// Year, month and day of a day since 1970 in the Gregorian calendar, counted in eras of 400
/// years that begin in March, so that the leap day is the last of its year.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A text being read against one of Go's layouts.
struct Layout<'a> {
    layout: &'static str,
    text: &'a str,
    rest: &'a str,
}

impl Layout<'_> {
    fn parse(mut self, decimals: Option<usize>) -> Result<Instant, TimeError> {
        let year = self.number(4, "2006")?;
        self.literal("-")?;
        let month = self.number(2, "01")?;
        if !(1..=12).contains(&month) {
            return Err(self.out_of_range("month"));
        }
        self.literal("-")?;
        let day = self.number(2, "02")?;
        self.literal("T")?;
        // Go takes an hour of one digit.
        let short =
            matches!(self.rest.as_bytes(), [b'0'..=b'9', next, ..] if !next.is_ascii_digit());
        let hour = self.number(if short { 1 } else { 2 }, "15")?;
        if hour > 23 {
            return Err(self.out_of_range("hour"));
        }
        self.literal(":")?;
        let minute = self.number(2, "04")?;
        if minute > 59 {
            return Err(self.out_of_range("minute"));
        }
        self.literal(":")?;
        let second = self.number(2, "05")?;
        if second > 59 {
            return Err(self.out_of_range("second"));
        }
        let nanos = self.fraction(decimals)?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            let extra = quote(self.rest);
            return Err(TimeError(format!(
                "parsing time {}: extra text: {extra}",
                quote(self.text)
            )));
        }
        if day < 1 || day > days_in_month(year, month) {
            return Err(self.out_of_range("day"));
        }
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
                - offset;
        Ok(Instant { seconds, nanos })
    }

    fn mismatch(&self, wanted: &str) -> TimeError {
        TimeError(format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quote(self.text),
            quote(self.layout),
            quote(self.rest),
            quote(wanted)
        ))
    }

    fn out_of_range(&self, what: &str) -> TimeError {
        TimeError(format!("parsing time {}: {what} out of range", quote(self.text)))
    }

    fn number(&mut self, digits: usize, wanted: &str) -> Result<i64, TimeError> {
        match self.rest.as_bytes().get(..digits) {
            Some(taken) if taken.iter().all(u8::is_ascii_digit) => {
                let value = taken.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
                self.rest = &self.rest[digits..];
                Ok(value)
            }
            _ => Err(self.mismatch(wanted)),
        }
    }

    fn literal(&mut self, wanted: &str) -> Result<(), TimeError> {
        self.rest = self.rest.strip_prefix(wanted).ok_or_else(|| self.mismatch(wanted))?;
        Ok(())
    }

    /// The decimals of the second, in nanoseconds: as many as the layout says, else any number.
    fn fraction(&mut self, decimals: Option<usize>) -> Result<u32, TimeError> {
        let digits = match self.rest.strip_prefix(['.', ',']) {
            Some(rest) => rest.bytes().take_while(u8::is_ascii_digit).count(),
            None => 0,
        };
        let taken = match decimals {
            Some(decimals) if digits < decimals => return Err(self.mismatch(".000000")),
            Some(decimals) => decimals,
            None if digits == 0 => return Ok(0),
            None => digits,
        };
        let padded = self.rest.as_bytes()[1..=taken].iter().chain([b'0'; 9].iter()).take(9);
        let nanos = padded.fold(0, |n, b| n * 10 + u32::from(b - b'0'));
        self.rest = &self.rest[taken + 1..];
        Ok(nanos)
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, TimeError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let digit = |b: &u8| i64::from(b - b'0');
        match self.rest.as_bytes() {
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, ..]
                if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) =>
            {
                let (hours, minutes) = (digit(h1) * 10 + digit(h2), digit(m1) * 10 + digit(m2));
                if hours > 24 {
                    return Err(self.out_of_range("time zone offset hour"));
                }
                if minutes > 60 {
                    return Err(self.out_of_range("time zone offset minute"));
                }
                let seconds = (hours * 60 + minutes) * 60;
                self.rest = &self.rest[6..];
                Ok(if *sign == b'-' { -seconds } else { seconds })
            }
            _ => Err(self.mismatch("Z07:00")),
        }
    }
}

/// Reads a duration in Go's syntax (`300ms`, `-1.5h`, `2h45m`) as nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, TimeError> {
    let invalid = || TimeError(format!("time: invalid duration {}", quote(text)));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    // The smallest i64 has no positive counterpart, so the sum is kept unsigned.
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole = take_digits(&mut rest);
        let fraction = match rest.strip_prefix('.') {
            Some(after) => {
                rest = after;
                take_digits(&mut rest)
            }
            None => "",
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = rest.bytes().position(|b| b == b'.' || b.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, after) = rest.split_at(end);
        rest = after;
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => {
                return Err(TimeError(format!("time: missing unit in duration {}", quote(text))));
            }
            unknown => {
                return Err(TimeError(format!(
                    "time: unknown unit {} in duration {}",
                    quote(unknown),
                    quote(text)
                )));
            }
        };
        let whole = match whole {
            "" => 0,
            digits => digits.parse::<u64>().map_err(|_| invalid())?,
        };
        // In floating point and with the digits that fit, as Go does it: 0.3333333333333333333h
        // are 20 minutes.
        let (mut part, mut decimals) = (0u64, 0);
        for b in fraction.bytes() {
            let Some(next) = part.checked_mul(10).and_then(|p| p.checked_add(u64::from(b - b'0')))
            else {
                break;
            };
            if next > 1 << 63 {
                break;
            }
            (part, decimals) = (next, decimals + 1);
        }
        let part = part as f64 * (scale as f64 / 10f64.powi(decimals));
        let value = whole.checked_mul(scale).and_then(|v| v.checked_add(part as u64));
        total = value.and_then(|v| total.checked_add(v)).ok_or_else(invalid)?;
        if total > 1 << 63 {
            return Err(invalid());
        }
    }
    match (negative, i64::try_from(total)) {
        (true, Ok(total)) => Ok(-total),
        (true, Err(_)) => Ok(i64::MIN),
        (false, total) => total.map_err(|_| invalid()),
    }
}

fn take_digits<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits
}

/// Writes nanoseconds as Go writes a duration: `1h0m0s`, `1.5s`, `100ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let (sign, n) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let decimal = |whole: u64, part: u64, digits: usize| {
        let part = format!("{part:0digits$}");
        match part.trim_end_matches('0') {
            "" => whole.to_string(),
            part => format!("{whole}.{part}"),
        }
    };
    match n {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(n / 1_000, n % 1_000, 3)),
        1_000_000..1_000_000_000 => {
            format!("{sign}{}ms", decimal(n / 1_000_000, n % 1_000_000, 6))
        }
        _ => {
            let seconds = n / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let seconds = decimal(seconds % 60, n % 1_000_000_000, 9);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, _) => format!("{sign}{minutes}m{seconds}s"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// The time package's own quoting: bytes that are not printable ASCII as `\x0a`.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for b in text.bytes() {
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' '..0x80 => out.push(char::from(b)),
            b => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        seconds: String,
        micros: String,
        duration: String,
    }

    /// The fixture has for each text the canonical form, or Go's error, of each of the types.
    #[test]
    fn agrees_with_upstream() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("testdata/time.json")).expect("fixture is JSON");
        let shown = |r: Result<Option<String>, TimeError>| match r {
            Ok(time) => time.unwrap_or_else(|| "null".to_owned()),
            Err(error) => error.to_string(),
        };
        for case in cases {
            let text = case.text.as_str();
            assert_eq!(shown(canonical_seconds(text)), case.seconds, "{text:?}");
            assert_eq!(shown(canonical_micros(text)), case.micros, "{text:?}");
            let duration = parse_duration(text).map(|d| Some(format_duration(d)));
            assert_eq!(shown(duration), case.duration, "{text:?}");
        }
    }

    #[test]
    fn durations_round_trip() {
        let mut nanos: i64 = 1;
        while nanos < i64::MAX / 7 {
            for n in [nanos, -nanos, nanos + 1, nanos - 1] {
                assert_eq!(parse_duration(&format_duration(n)), Ok(n));
            }
            nanos = nanos * 7 + 3;
        }
        assert_eq!(parse_duration(&format_duration(i64::MIN)), Ok(i64::MIN));
        assert_eq!(parse_duration(&format_duration(i64::MAX)), Ok(i64::MAX));
    }

    #[test]
    fn now_is_canonical() {
        assert_eq!(canonical_seconds(&now()).map(|t| t.is_some()), Ok(true));
        let micros = now_micro();
        assert_eq!(canonical_micros(&micros), Ok(Some(micros)));
    }
}
