//! `"...".format([...])`.

use super::{number, operators::arg, time};
use crate::{
    eval::Run,
    value::{EvalError, Outcome, Value},
};

/// Decimals without a precision.
const DECIMALS: usize = 6;
/// Most decimals; upstream has no limit, and a machine's memory has.
const MOST_DECIMALS: usize = 1000;
/// Most characters that a format makes.
const LARGEST: usize = 4 << 20;

/// Part of a format.
enum Part<'t> {
    Text(&'t str),
    Clause { letter: char, precision: Option<usize> },
}

/// Splits a format into text and clauses.
fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        all.push(Part::Text(&rest[..at]));
        let behind = &rest[at + 1..];
        if let Some(behind) = behind.strip_prefix('%') {
            all.push(Part::Text("%"));
            rest = behind;
            continue;
        }
        let (precision, behind) = precision(behind)?;
        let Some(letter) = behind.chars().next() else {
            return Err("unexpected end of string".into());
        };
        if !"dfsebxXo".contains(letter) {
            return Err(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{letter}\""
            ));
        }
        all.push(Part::Clause { letter, precision });
        rest = &behind[letter.len_utf8()..];
    }
    all.push(Part::Text(rest));
    Ok(all)
}

fn precision(text: &str) -> Result<(Option<usize>, &str), String> {
    let Some(behind) = text.strip_prefix('.') else { return Ok((None, text)) };
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = behind.split_at(digits);
    match number.parse::<usize>() {
        Ok(number) if number <= MOST_DECIMALS => Ok((Some(number), rest)),
        Ok(_) => Err(format!("precision is more than {MOST_DECIMALS}")),
        Err(_) => Err("could not parse precision: unable to convert precision to integer".into()),
    }
}

/// What is wrong with a format that is written down: with which argument, where it is one.
pub(super) fn check<'t>(
    text: &str,
    count: usize,
    type_of: &dyn Fn(usize) -> Option<&'t str>,
) -> Option<(Option<usize>, String)> {
    let parts = match parts(text) {
        Ok(parts) => parts,
        Err(message) => return Some((None, message)),
    };
    let mut at = 0;
    for part in parts {
        let Part::Clause { letter, .. } = part else { continue };
        if at >= count {
            return Some((None, format!("index {at} out of range")));
        }
        if let Some(of) = type_of(at)
            && let Some(message) = misfit(letter, of)
        {
            return Some((Some(at), format!("error during formatting: {message}")));
        }
        at += 1;
    }
    (at < count).then(|| {
        let message =
            format!("too many arguments supplied to string.format (expected {at}, got {count})");
        (None, message)
    })
}

/// Why something of a type does not go where a clause is.
fn misfit(letter: char, of: &str) -> Option<String> {
    let (name, takes, fits) = match letter {
        'd' => ("decimal clause", "integers", matches!(of, "int" | "uint")),
        'f' => ("fixed-point clause", "doubles", matches!(of, "double" | "string")),
        'e' => ("scientific clause", "doubles", matches!(of, "double" | "string")),
        'b' => ("binary clause", "integers and bools", matches!(of, "int" | "uint" | "bool")),
        'x' | 'X' => (
            "hex clause",
            "integers, byte buffers, and strings",
            matches!(of, "int" | "uint" | "string" | "bytes"),
        ),
        'o' => ("octal clause", "integers", matches!(of, "int" | "uint")),
        _ => return None,
    };
    (!fits).then(|| format!("{name} can only be used on {takes}, was given {of}"))
}

pub(super) fn format<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::String(text), Value::List(list)) = (arg(args, 0), arg(args, 1)) else {
        return EvalError::no_overload();
    };
    let mut made = String::new();
    let mut at = 0;
    for part in parts(text).map_err(EvalError::Failed)? {
        match part {
            Part::Text(text) => made.push_str(text),
            Part::Clause { letter, precision } => {
                let Some(value) = list.get(at) else {
                    return EvalError::new(format!("index {at} out of range"));
                };
                let value = value?;
                at += 1;
                match clause(letter, precision, &value) {
                    Ok(text) => made.push_str(&text),
                    Err(message) => {
                        return EvalError::new(format!("error during formatting: {message}"));
                    }
                }
            }
        }
        if made.len() > LARGEST {
            run.charge(u64::MAX)?;
        }
    }
    Ok(Value::text(made))
}

fn clause(letter: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, String> {
    let wrong = || misfit(letter, value.type_name()).unwrap_or_else(|| "no such overload".into());
    let decimals = precision.unwrap_or(DECIMALS);
    Ok(match (letter, value) {
        ('s', value) => string(value)?,
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('f', value) => fixed(float(value).ok_or_else(wrong)?, decimals),
        ('e', value) => scientific(float(value).ok_or_else(wrong)?, DECIMALS),
        ('b', Value::Int(value)) => signed(*value, |value| format!("{value:b}")),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('o', Value::Int(value)) => signed(*value, |value| format!("{value:o}")),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('x' | 'X', value) => {
            let lower = match value {
                Value::Int(value) => signed(*value, |value| format!("{value:x}")),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return Err(wrong()),
            };
            if letter == 'X' { lower.to_uppercase() } else { lower }
        }
        _ => return Err(wrong()),
    })
}

fn signed(value: i64, show: fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, show(value.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn float(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn unusual(value: f64) -> Option<String> {
    let text = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "∞"
    } else if value == f64::NEG_INFINITY {
        "-∞"
    } else {
        return None;
    };
    Some(text.into())
}

/// With commas between thousands, as English has them.
fn fixed(value: f64, decimals: usize) -> String {
    if let Some(text) = unusual(value) {
        return text;
    }
    let text = format!("{value:.decimals$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

fn scientific(value: f64, decimals: usize) -> String {
    if let Some(text) = unusual(value) {
        return text;
    }
    let text = format!("{value:.decimals$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(("", exponent), |rest| ("⁻", rest));
    let digits = format!("{digits:0>2}");
    let raised = digits.chars().map(|digit| match digit {
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        '9' => '⁹',
        _ => '⁰',
    });
    format!("{mantissa}×10{sign}{}", raised.collect::<String>())
}

fn string(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::Null => Ok("null".into()),
        Value::String(text) => Ok(text.to_string()),
        Value::List(_) | Value::Map(_) => inner(value, 0),
        Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Bool(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_) => {
            number::text(value).map(Option::unwrap_or_default).map_err(|error| error.to_string())
        }
        other => Err(format!(
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, \
             types, durations, and timestamps, was given {}",
            other.type_name()
        )),
    }
}

/// A value inside of a list or a map.
fn inner(value: &Value<'_>, depth: usize) -> Result<String, String> {
    if depth > 50 {
        return Err("value is nested too deeply".into());
    }
    let failed = |error: EvalError| error.to_string();
    Ok(match value {
        Value::String(text) => format!("{:?}", &**text),
        Value::Bytes(bytes) => format!("b{:?}", String::from_utf8_lossy(bytes)),
        Value::Double(value) if !value.is_finite() => format!("{:?}", number::show(*value)),
        Value::Double(value) => format!("{value:.DECIMALS$}"),
        Value::Timestamp(moment) => format!("timestamp({:?})", time::show_timestamp(*moment)),
        Value::Duration(span) => format!("duration({:?})", time::show_duration(*span)),
        Value::List(list) => {
            let items = list.iter().map(|item| inner(&item.map_err(failed)?, depth + 1));
            format!("[{}]", items.collect::<Result<Vec<_>, _>>()?.join(", "))
        }
        Value::Map(map) => {
            let mut all = Vec::new();
            for (key, value) in map.entries().map_err(failed)? {
                all.push((inner(&key, depth + 1)?, inner(&value, depth + 1)?));
            }
            all.sort();
            let all: Vec<String> = all.into_iter().map(|(key, it)| format!("{key}:{it}")).collect();
            format!("{{{}}}", all.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Type(_) => {
            string(value)?
        }
        other => return Err(format!("no formatting function for {}", other.type_name())),
    })
}
