//! Numbers: arithmetic that says when it overflows, conversions, and how floats are written.

use std::cmp::Ordering;

use super::{Function, cost, function, operators::arg, time};
use crate::{
    eval::Run,
    value::{EvalError, Outcome, Value},
};

pub(super) const FUNCTIONS: &[Function] = &[
    function("bool", to_bool, cost::one, &["bool -> bool", "string -> bool"]),
    function("bytes", to_bytes, cost::first, &["bytes -> bytes", "string -> bytes"]),
    function(
        "double",
        to_double,
        cost::one,
        &["double -> double", "int -> double", "string -> double", "uint -> double"],
    ),
    function(
        "int",
        to_int,
        cost::one,
        &[
            "int -> int",
            "double -> int",
            "duration -> int",
            "string -> int",
            "timestamp -> int",
            "uint -> int",
        ],
    ),
    function(
        "uint",
        to_uint,
        cost::one,
        &["uint -> uint", "double -> uint", "int -> uint", "string -> uint"],
    ),
    function(
        "string",
        to_string,
        cost::one,
        &[
            "string -> string",
            "bool -> string",
            "bytes -> string",
            "double -> string",
            "duration -> string",
            "int -> string",
            "timestamp -> string",
            "uint -> string",
            "net.IP -> string",
            "net.CIDR -> string",
        ],
    ),
];

/// The order of two numbers; none inside where one of them is no number at all (NaN), and none where
/// one is of another type.
pub(super) fn order(one: &Value<'_>, another: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (one, another) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Int(a), Value::Double(b)) => with_float(i128::from(*a), *b),
        (Value::Uint(a), Value::Double(b)) => with_float(i128::from(*a), *b),
        (Value::Double(a), Value::Int(b)) => with_float(i128::from(*b), *a).map(Ordering::reverse),
        (Value::Double(a), Value::Uint(b)) => with_float(i128::from(*b), *a).map(Ordering::reverse),
        _ => return None,
    })
}

/// A whole number and a float; what is beyond 64 bits is beyond every whole number.
fn with_float(whole: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= 18_446_744_073_709_551_616.0 {
        return Some(Ordering::Less);
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let floor = float.floor();
    // In range, so that the conversion is exact.
    let order = whole.cmp(&(floor as i128));
    Some(if order.is_eq() && float > floor { Ordering::Less } else { order })
}

fn overflow<'a>(unsigned: bool) -> Outcome<'a> {
    EvalError::new(if unsigned { "unsigned integer overflow" } else { "integer overflow" })
}

fn whole<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map_or_else(|| overflow(false), |value| Ok(Value::Int(value)))
}

fn unsigned<'a>(value: Option<u64>) -> Outcome<'a> {
    value.map_or_else(|| overflow(true), |value| Ok(Value::Uint(value)))
}

pub(super) fn add<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Int(a), Value::Int(b)) => whole(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        _ => EvalError::no_overload(),
    }
}

pub(super) fn subtract<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Int(a), Value::Int(b)) => whole(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        _ => EvalError::no_overload(),
    }
}

pub(super) fn multiply<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Int(a), Value::Int(b)) => whole(a.checked_mul(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_mul(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => EvalError::no_overload(),
    }
}

pub(super) fn divide<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            EvalError::new("division by zero")
        }
        (Value::Int(a), Value::Int(b)) => whole(a.checked_div(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_div(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => EvalError::no_overload(),
    }
}

pub(super) fn modulo<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            EvalError::new("modulus by zero")
        }
        (Value::Int(a), Value::Int(b)) => whole(a.checked_rem(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_rem(*b)),
        _ => EvalError::no_overload(),
    }
}

/// A number as a place in a list.
pub(super) fn position(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::Uint(value) => i64::try_from(*value).ok(),
        Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.0e15 => Some(*value as i64),
        _ => None,
    }
}

fn unreadable<'a>(to: &str) -> Outcome<'a> {
    EvalError::new(format!("type conversion error from 'string' to '{to}'"))
}

fn to_bool<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => unreadable("bool"),
        },
        _ => EvalError::no_overload(),
    }
}

fn to_bytes<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ Value::Bytes(_) => Ok(value.clone()),
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => EvalError::no_overload(),
    }
}

/// A float as Go reads it: Rust reads the same, and words Go does not.
fn float(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn to_double<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ Value::Double(_) => Ok(value.clone()),
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Uint(value) => Ok(Value::Double(*value as f64)),
        Value::String(text) => match float(text) {
            Some(value) => Ok(Value::Double(value)),
            None => unreadable("double"),
        },
        _ => EvalError::no_overload(),
    }
}

fn to_int<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ Value::Int(_) => Ok(value.clone()),
        Value::Uint(value) => whole(i64::try_from(*value).ok()),
        Value::Double(value) => {
            let fits =
                *value > -9_223_372_036_854_775_808.0 && *value < 9_223_372_036_854_775_808.0;
            whole(fits.then_some(*value as i64))
        }
        Value::Duration(span) => Ok(Value::Int(span.0)),
        Value::Timestamp(moment) => Ok(Value::Int(time::unix_seconds(*moment))),
        Value::String(text) => match text.parse() {
            Ok(value) => Ok(Value::Int(value)),
            Err(_) => unreadable("int"),
        },
        _ => EvalError::no_overload(),
    }
}

fn to_uint<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ Value::Uint(_) => Ok(value.clone()),
        Value::Int(value) => unsigned(u64::try_from(*value).ok()),
        Value::Double(value) => {
            let fits = *value >= 0.0 && *value < 18_446_744_073_709_551_616.0;
            unsigned(fits.then_some(*value as u64))
        }
        Value::String(text) if !text.starts_with('+') => match text.parse() {
            Ok(value) => Ok(Value::Uint(value)),
            Err(_) => unreadable("uint"),
        },
        Value::String(_) => unreadable("uint"),
        _ => EvalError::no_overload(),
    }
}

fn to_string<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match text(arg(args, 0))? {
        Some(text) => Ok(Value::text(text)),
        None => Ok(arg(args, 0).clone()),
    }
}

/// A value as text; none where it is text already.
pub(super) fn text(value: &Value<'_>) -> Result<Option<String>, EvalError> {
    Ok(Some(match value {
        Value::String(_) => return Ok(None),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => show(*value),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return EvalError::new("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::Duration(span) => time::show_duration(*span),
        Value::Timestamp(moment) => time::show_timestamp(*moment),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        Value::Type(name) => name.to_string(),
        _ => return EvalError::no_overload(),
    }))
}

/// A float in the shortest form that reads back the same, with an exponent below -4 and from 6 on
/// only where the digits do not reach that far: Go's `%g`.
pub(crate) fn show(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) && (exponent < 6 || value == 0.0) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_does() {
        for (value, shown) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.234567e+06"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-1.5e300, "-1.5e+300"),
            (0.0, "0"),
        ] {
            assert_eq!(show(value), shown);
        }
    }

    #[test]
    fn whole_numbers_and_floats_have_an_order() {
        let order = |a: i64, b: f64| order(&Value::Int(a), &Value::Double(b)).unwrap();
        assert_eq!(order(1, 1.5), Some(Ordering::Less));
        assert_eq!(order(-1, -1.5), Some(Ordering::Greater));
        assert_eq!(order(i64::MAX, 1e30), Some(Ordering::Less));
        assert_eq!(order(i64::MIN, f64::NEG_INFINITY), Some(Ordering::Greater));
        assert_eq!(order(0, f64::NAN), None);
        assert_eq!(order(i64::MAX, 9_223_372_036_854_775_808.0), Some(Ordering::Less));
    }
}
