//! Resource quantities (`500m`, `1.5Gi`, `12e6`) with the arithmetic and canonical form of
//! k8s.io/apimachinery/pkg/api/resource.
//!
//! A quantity is `mantissa * 10^scale` with at most 36 significant digits and nothing finer than
//! nano; what is finer rounds away from zero, so that nobody gets less than was asked for.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde_json::Value;

/// Why a string is no quantity; the messages are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not a number with a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is none.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is none of the known ones.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// With a decimal exponent: `12e6`.
    DecimalExponent,
    /// With a power of 1024: `12Mi`.
    BinarySi,
    /// With a power of 1000: `12M`.
    #[default]
    DecimalSi,
}

/// An amount of a resource. Equality and order are by value: `1` equals `1000m`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    mantissa: i128,
    scale: i32,
    format: Format,
}

/// Finest representable scale (10^-9).
const NANO: i32 = -9;
/// Significant digits kept; two more must fit an i128 when the exponent is made a multiple of 3.
const DIGITS: usize = 36;
const MAX_MANTISSA: i128 = 10i128.pow(DIGITS as u32);

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { mantissa: 0, scale: 0, format: Format::DecimalSi };

    /// `value` whole units, written in `format`.
    pub const fn new(value: i64, format: Format) -> Self {
        Quantity { mantissa: value as i128, scale: 0, format }
    }

    /// `value` thousandths of a unit.
    pub const fn from_milli(value: i64) -> Self {
        Quantity { mantissa: value as i128, scale: -3, format: Format::DecimalSi }
    }

    /// `value * 10^scale` units.
    pub fn from_scaled(value: i64, scale: i32) -> Self {
        Quantity::rounded(i128::from(value), scale, Format::DecimalSi)
    }

    /// Parses `500m`, `1.5Gi`, `12e6`.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        Parts::split(text).and_then(|parts| parts.quantity())
    }

    /// A quantity in a JSON document: a string, or a plain number; null is zero.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => Quantity::parse(text.trim()),
            Value::Number(number) => Quantity::parse(&number.to_string()),
            Value::Null => Ok(Quantity::ZERO),
            _ => Err(QuantityError::Format),
        }
    }

    /// How it is written.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    pub const fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub const fn signum(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// Whole units, rounded away from zero, and held at the ends of i64.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// Thousandths of a unit, rounded away from zero, and held at the ends of i64.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// Units of 10^`scale`, rounded away from zero, and held at the ends of i64.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let value = if self.scale >= scale {
            let factor = pow10(i64::from(self.scale) - i64::from(scale));
            factor.and_then(|factor| self.mantissa.checked_mul(factor)).unwrap_or(
                if self.mantissa < 0 { i128::MIN } else { self.mantissa.signum() * i128::MAX },
            )
        } else {
            divide_away(self.mantissa, i64::from(scale) - i64::from(self.scale))
        };
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    /// The exact whole units, where it has no fraction and fits.
    pub fn as_i64(&self) -> Option<i64> {
        let whole = self.rounded_to(0);
        let value = pow10(i64::from(whole.scale)).and_then(|f| whole.mantissa.checked_mul(f));
        value.filter(|_| whole == *self).and_then(|value| i64::try_from(value).ok())
    }

    /// The nearest floating point number.
    pub fn as_f64(&self) -> f64 {
        let mantissa = self.mantissa as f64;
        // Dividing by an exact power is more precise than multiplying by its inexact inverse.
        if self.scale < 0 {
            mantissa / 10f64.powi(-self.scale)
        } else {
            mantissa * 10f64.powi(self.scale)
        }
    }

    /// Rounded away from zero to a multiple of 10^`scale`; unchanged where it already is coarser.
    #[must_use]
    pub fn rounded_to(&self, scale: i32) -> Self {
        if self.scale >= scale {
            return *self;
        }
        let mantissa = divide_away(self.mantissa, i64::from(scale) - i64::from(self.scale));
        Quantity { mantissa, scale, format: self.format }
    }

    /// `factor` times the amount.
    #[must_use]
    pub fn times(&self, factor: i64) -> Self {
        let (mut mantissa, mut scale, mut factor) = (self.mantissa, self.scale, i128::from(factor));
        while factor % 10 == 0 && factor != 0 {
            factor /= 10;
            scale += 1;
        }
        loop {
            if let Some(product) = mantissa.checked_mul(factor) {
                return Quantity::rounded(product, scale, self.format);
            }
            mantissa = divide_away(mantissa, 1);
            scale += 1;
        }
    }

    /// The other's way of writing it.
    #[must_use]
    pub fn with_format(self, format: Format) -> Self {
        Quantity { format, ..self }
    }

    /// Within the digits kept and not finer than nano.
    fn rounded(mut mantissa: i128, mut scale: i32, format: Format) -> Self {
        if scale < NANO {
            mantissa = divide_away(mantissa, i64::from(NANO) - i64::from(scale));
            scale = NANO;
        }
        while mantissa.abs() >= MAX_MANTISSA {
            mantissa = divide_away(mantissa, 1);
            scale = scale.saturating_add(1);
        }
        if mantissa == 0 {
            scale = 0;
        }
        Quantity { mantissa, scale, format }
    }

    fn plus(self, other: Quantity) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        if other.is_zero() {
            return Quantity { format, ..self };
        }
        if self.is_zero() {
            return Quantity { format, ..other };
        }
        let (fine, coarse) = if self.scale <= other.scale { (self, other) } else { (other, self) };
        let shift = i64::from(coarse.scale) - i64::from(fine.scale);
        let aligned = pow10(shift).and_then(|factor| coarse.mantissa.checked_mul(factor));
        if let Some(sum) = aligned.and_then(|aligned| aligned.checked_add(fine.mantissa)) {
            return Quantity::rounded(sum, fine.scale, format);
        }
        // Too far apart for 36 digits: the finer one is rounded to what the coarser can take.
        let room = (DIGITS - digits(coarse.mantissa)) as i64;
        let step = shift - room.min(shift);
        let factor = pow10(room.min(shift)).unwrap_or(1);
        let sum = coarse.mantissa * factor + divide_away(fine.mantissa, step);
        let scale = i64::from(fine.scale) + step;
        Quantity::rounded(sum, i32::try_from(scale).unwrap_or(i32::MAX), format)
    }

    /// The mantissa without its factors of ten, as a number and a power of ten that is a
    /// multiple of three.
    fn thousands(&self) -> (i128, i64) {
        let (mut mantissa, mut exponent) = (self.mantissa, i64::from(self.scale));
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        while exponent % 3 != 0 {
            mantissa *= 10;
            exponent -= 1;
        }
        (mantissa, exponent)
    }
}

/// The canonical text of a quantity, as the API server stores it.
///
/// A text that is canonical enough for upstream is kept as it is (`1.500` is); everything else
/// is rewritten (`0.5` to `500m`, `1024Ki` to `1Mi`).
pub fn canonical(text: &str) -> Result<Cow<'_, str>, QuantityError> {
    if text == "0" {
        return Ok(Cow::Borrowed(text));
    }
    let parts = Parts::split(text)?;
    if parts.is_kept() {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(parts.quantity()?.to_string()))
}

/// A quantity's text taken apart.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a str,
    /// Digits behind the point.
    fraction: &'a str,
    exponent: i32,
    format: Format,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, rest) = take_digits(unsigned.trim_start_matches('0'));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => take_digits(rest),
            None => ("", rest),
        };
        // The letters, the sign and the digits of a suffix; anything behind them is an error of
        // the whole text, anything unknown within them an error of the suffix.
        let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = letters.strip_prefix(['-', '+']).unwrap_or(letters);
        if exponent.bytes().any(|b| !b.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        let (exponent, format) = suffix_value(suffix).ok_or(QuantityError::Suffix)?;
        Ok(Parts { negative, whole, fraction, exponent, format })
    }

    /// Whether upstream keeps the text as it came: it has to be small enough for its fast path
    /// and look canonical.
    fn is_kept(&self) -> bool {
        // An empty whole part counts as the digit 0 upstream.
        let whole_digits = self.whole.len().max(1);
        if self.format == Format::BinarySi {
            let bits = (self.exponent as f32 * 3.0 / 10.0) as i64;
            let precision = 15i64.saturating_sub(whole_digits as i64) - bits - 1;
            let last_bits =
                self.whole.bytes().fold(0u32, |n, b| (n * 10 + u32::from(b - b'0')) % 8);
            return self.fraction.is_empty() && precision >= 0 && last_bits != 0;
        }
        let scale = i64::from(self.exponent) - self.fraction.len() as i64;
        let trailing_zeros = self
            .fraction
            .bytes()
            .rev()
            .chain(self.whole.bytes().rev())
            .take_while(|b| *b == b'0')
            .count();
        whole_digits + self.fraction.len() <= 18
            && scale >= i64::from(NANO)
            && scale % 3 == 0
            && trailing_zeros < 3
            && !self.whole.is_empty()
    }

    fn quantity(&self) -> Result<Quantity, QuantityError> {
        let scale = i64::from(self.exponent) - self.fraction.len() as i64;
        let mut quantity = if self.whole.len() + self.fraction.len() <= 18 {
            let mantissa = self
                .whole
                .bytes()
                .chain(self.fraction.bytes())
                .fold(0i128, |n, b| n * 10 + i128::from(b - b'0'));
            match self.format {
                Format::BinarySi => {
                    let scale = -(self.fraction.len() as i32);
                    Quantity::rounded(mantissa << self.exponent, scale, self.format)
                }
                _ => {
                    let scale = i32::try_from(scale).map_err(|_| QuantityError::Numeric)?;
                    Quantity::rounded(mantissa, scale, self.format)
                }
            }
        } else {
            self.long_quantity(scale)?
        };
        if self.format == Format::BinarySi {
            let max = Quantity::new(i64::MAX, Format::BinarySi);
            if quantity > max {
                quantity = max;
            }
            if quantity < Quantity::new(1, Format::BinarySi) && !quantity.is_zero() {
                quantity.format = Format::DecimalSi;
            }
        }
        if self.negative {
            quantity.mantissa = -quantity.mantissa;
        }
        Ok(quantity)
    }

    /// More digits than fit: worked out on the digits, in time linear in their number.
    fn long_quantity(&self, scale: i64) -> Result<Quantity, QuantityError> {
        let mut digits: Vec<u8> =
            self.whole.bytes().chain(self.fraction.bytes()).map(|b| b - b'0').collect();
        let mut scale = scale;
        if self.format == Format::BinarySi {
            scale = -(self.fraction.len() as i64);
            for _ in 0..self.exponent / 10 {
                multiply_digits(&mut digits, 1024);
            }
        }
        let significant = digits.iter().skip_while(|d| **d == 0).count();
        let drop = significant
            .saturating_sub(DIGITS)
            .max(usize::try_from(i64::from(NANO) - scale).unwrap_or(0));
        let kept = digits.len().saturating_sub(drop);
        let mut mantissa = digits[..kept].iter().fold(0i128, |n, d| n * 10 + i128::from(*d));
        if digits[kept..].iter().any(|d| *d != 0) {
            mantissa += 1;
        }
        let scale = i32::try_from(scale + drop as i64).map_err(|_| QuantityError::Numeric)?;
        Ok(Quantity::rounded(mantissa, scale, self.format))
    }
}

/// The leading decimal digits and what follows them.
fn take_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The exponent (of 10, or of 2 for the binary format) that a suffix stands for.
fn suffix_value(suffix: &str) -> Option<(i32, Format)> {
    let (exponent, format) = match suffix {
        "" => (0, Format::DecimalSi),
        "n" => (-9, Format::DecimalSi),
        "u" => (-6, Format::DecimalSi),
        "m" => (-3, Format::DecimalSi),
        "k" => (3, Format::DecimalSi),
        "M" => (6, Format::DecimalSi),
        "G" => (9, Format::DecimalSi),
        "T" => (12, Format::DecimalSi),
        "P" => (15, Format::DecimalSi),
        "E" => (18, Format::DecimalSi),
        "Ki" => (10, Format::BinarySi),
        "Mi" => (20, Format::BinarySi),
        "Gi" => (30, Format::BinarySi),
        "Ti" => (40, Format::BinarySi),
        "Pi" => (50, Format::BinarySi),
        "Ei" => (60, Format::BinarySi),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            // Twenty billion digits of room for the shifts that follow.
            let exponent = exponent.parse::<i32>().ok().filter(|e| e.abs() < i32::MAX / 2)?;
            (exponent, Format::DecimalExponent)
        }
    };
    Some((exponent, format))
}

/// Multiplies a number given as decimal digits, the most significant first.
fn multiply_digits(digits: &mut Vec<u8>, factor: u32) {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        carry += u32::from(*digit) * factor;
        *digit = (carry % 10) as u8;
        carry /= 10;
    }
    let mut front = Vec::new();
    while carry > 0 {
        front.insert(0, (carry % 10) as u8);
        carry /= 10;
    }
    digits.splice(0..0, front);
}

/// 10^`exponent`, where it fits.
fn pow10(exponent: i64) -> Option<i128> {
    u32::try_from(exponent).ok().and_then(|e| 10i128.checked_pow(e))
}

/// `value / 10^exponent`, rounded away from zero.
fn divide_away(value: i128, exponent: i64) -> i128 {
    let Some(divisor) = pow10(exponent) else { return value.signum() };
    let rest = value % divisor;
    value / divisor + rest.signum()
}

/// Number of decimal digits.
fn digits(value: i128) -> usize {
    value.unsigned_abs().checked_ilog10().map_or(0, |log| log as usize + 1)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi {
            let whole = self.rounded_to(0);
            let small = self.cmp(&Quantity::new(1024, Format::BinarySi)).is_lt()
                && self.cmp(&Quantity::new(-1024, Format::BinarySi)).is_gt();
            // A fraction or a very large number would lose precision in powers of 1024.
            if let (false, true, Some(value)) = (small, whole == *self, whole.as_i64()) {
                let (mut value, mut power) = (value, 0);
                while value % 1024 == 0 && power < 6 {
                    value /= 1024;
                    power += 1;
                }
                let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power];
                return write!(f, "{value}{suffix}");
            }
        }
        let (number, exponent) = self.thousands();
        let suffix = match exponent {
            0 => "",
            _ if self.format == Format::DecimalExponent => return write!(f, "{number}e{exponent}"),
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            // Upstream forgets the exponent here; a number without it would be another amount.
            _ => return write!(f, "{number}e{exponent}"),
        };
        write!(f, "{number}{suffix}")
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Quantity::parse(text)
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.scale == other.scale || self.is_zero() || other.is_zero() {
            return self.mantissa.cmp(&other.mantissa);
        }
        if self.signum() != other.signum() {
            return self.signum().cmp(&other.signum());
        }
        let magnitude = |q: &Quantity| digits(q.mantissa) as i64 + i64::from(q.scale);
        let by_size = match magnitude(self).cmp(&magnitude(other)) {
            // As many digits before the point: the shift fits the digits of the finer one.
            Ordering::Equal => {
                let shift = i64::from(self.scale) - i64::from(other.scale);
                let factor = pow10(shift.abs()).unwrap_or(1);
                let (a, b) = (self.mantissa.abs(), other.mantissa.abs());
                if shift > 0 { (a * factor).cmp(&b) } else { a.cmp(&(b * factor)) }
            }
            unequal => unequal,
        };
        if self.signum() < 0 { by_size.reverse() } else { by_size }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        self.plus(other)
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = self.plus(other);
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self.plus(-other)
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = self.plus(-other);
    }
}

impl Neg for Quantity {
    type Output = Quantity;

    fn neg(self) -> Quantity {
        Quantity { mantissa: -self.mantissa, ..self }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(quantities: I) -> Quantity {
        quantities.fold(Quantity::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests;
