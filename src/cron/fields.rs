//! One field of a schedule: which minutes, hours, days or months.

use crate::ParseError;

/// What a field speaks of.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

pub(crate) const MINUTES: Bounds = Bounds { low: 0, high: 59, names: &[] };
pub(crate) const HOURS: Bounds = Bounds { low: 0, high: 23, names: &[] };
pub(crate) const DAYS: Bounds = Bounds { low: 1, high: 31, names: &[] };
pub(crate) const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
pub(crate) const WEEKDAYS: Bounds =
    Bounds { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// A set of numbers below 64, and whether it came from a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    /// Reads a list of ranges, each with an optional step.
    pub(crate) fn parse(text: &str, bounds: Bounds) -> Result<Self, ParseError> {
        let mut field = Self { bits: 0, star: false };
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (bits, star) = range_bits(range, bounds).map_err(ParseError)?;
            field.bits |= bits;
            field.star |= star;
        }
        Ok(field)
    }

    /// Whether the number is in the field.
    pub(crate) fn has(&self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & (1 << number) != 0)
    }

    /// Whether the field says nothing.
    pub(crate) fn any(&self) -> bool {
        self.star
    }
}

fn range_bits(text: &str, bounds: Bounds) -> Result<(u64, bool), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut star = matches!(ends[0], "*" | "?");
    let (low, mut high) = if star {
        (bounds.low, bounds.high)
    } else {
        let low = number_or_name(ends[0], bounds)?;
        match ends.as_slice() {
            [_] => (low, low),
            [_, high] => (low, number_or_name(high, bounds)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            // "3/15" is from 3 on.
            if ends.len() == 1 {
                high = bounds.high;
            }
            star &= step <= 1;
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if low < bounds.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {text}", bounds.low));
    }
    if high > bounds.high {
        return Err(format!("end of range ({high}) above maximum ({}): {text}", bounds.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let mut bits = 0;
    let mut at = low;
    while at <= high {
        bits |= 1 << at;
        at = at.saturating_add(step);
    }
    Ok((bits, star))
}

fn number_or_name(text: &str, bounds: Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().zip(bounds.low..).find(|(name, _)| **name == lower) {
        Some((_, number)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let bad = |why: &str| {
        Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"))
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return bad("invalid syntax");
    }
    match text.parse::<i64>() {
        Err(_) => bad("value out of range"),
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
    }
}
