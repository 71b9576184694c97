//! Versions, by the rules of semver.org. Their order is behind the methods of `quantity.rs`.

use std::cmp::Ordering;

use super::{Function, cost, function, operators::arg};
use crate::value::{EvalError, Outcome, Value};

const PART: &[&str] = &["kubernetes.Semver | -> int"];
const TAKES: &[&str] = &["string -> kubernetes.Semver", "string, bool -> kubernetes.Semver"];

pub(super) const FUNCTIONS: &[Function] = &[
    function("semver", |_, args| semver(args), cost::first, TAKES),
    function(
        "isSemver",
        |_, args| is_semver(args),
        cost::first,
        &["string -> bool", "string, bool -> bool"],
    ),
    function("major", |_, args| part(args, 0), cost::one, PART),
    function("minor", |_, args| part(args, 1), cost::one, PART),
    function("patch", |_, args| part(args, 2), cost::one, PART),
];

/// A version. What is behind a `+` does not count.
#[derive(Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<Pre>,
}

#[derive(Debug, PartialEq, Eq)]
enum Pre {
    Number(u64),
    Text(String),
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".into());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".into());
        };
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (*rest, None),
        };
        let (patch, pre) = match rest.split_once('-') {
            Some((patch, pre)) => (patch, Some(pre)),
            None => (rest, None),
        };
        let mut numbers = [0; 3];
        for ((text, name), number) in
            [(*major, "Major"), (*minor, "Minor"), (patch, "Patch")].into_iter().zip(&mut numbers)
        {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!(
                    "Invalid character(s) found in {} number {text:?}",
                    name.to_lowercase()
                ));
            }
            if text.len() > 1 && text.starts_with('0') {
                return Err(format!("{name} number must not contain leading zeroes {text:?}"));
            }
            *number = text.parse().map_err(|_| format!("{name} number out of range {text:?}"))?;
        }
        let pre = pre.into_iter().flat_map(|pre| pre.split('.')).map(Pre::parse);
        let pre = pre.collect::<Result<_, _>>()?;
        for part in build.into_iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".into());
            }
            if !part.bytes().all(identifier) {
                return Err(format!("Invalid character(s) found in build meta data {part:?}"));
            }
        }
        Ok(Self { numbers, pre })
    }

    /// Reads what people write: with a `v`, leading zeros, or without the last numbers.
    fn lenient(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(ToOwned::to_owned).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let short = part.trim_start_matches('0');
                let digit = short.starts_with(|c: char| c.is_ascii_digit());
                *part = if digit { short.to_owned() } else { format!("0{short}") };
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("Short version cannot contain PreRelease/Build meta data".into());
            }
            parts.resize(3, "0".into());
        }
        Self::parse(&parts.join("."))
    }

    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        numbers.then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let different = self.pre.iter().zip(&other.pre).map(|(a, b)| a.cmp(b));
                different
                    .into_iter()
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        })
    }
}

impl Pre {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Prerelease is empty".into());
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            if text.len() > 1 && text.starts_with('0') {
                return Err(format!(
                    "Numeric PreRelease version must not contain leading zeroes {text:?}"
                ));
            }
            return text.parse().map(Pre::Number).map_err(|error| error.to_string());
        }
        if !text.bytes().all(identifier) {
            return Err(format!("Invalid character(s) found in prerelease {text:?}"));
        }
        Ok(Pre::Text(text.to_owned()))
    }

    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Pre::Number(a), Pre::Number(b)) => a.cmp(b),
            (Pre::Number(_), Pre::Text(_)) => Ordering::Less,
            (Pre::Text(_), Pre::Number(_)) => Ordering::Greater,
            (Pre::Text(a), Pre::Text(b)) => a.cmp(b),
        }
    }
}

fn identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

fn read(args: &[Value<'_>]) -> Result<Result<Semver, String>, EvalError> {
    let Value::String(text) = arg(args, 0) else { return EvalError::no_overload() };
    match args.get(1) {
        Some(Value::Bool(true)) => Ok(Semver::lenient(text)),
        None | Some(Value::Bool(false)) => Ok(Semver::parse(text)),
        Some(_) => EvalError::no_overload(),
    }
}

fn semver<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match read(args)? {
        Ok(version) => Ok(Value::Semver(version.into())),
        Err(error) => EvalError::new(error),
    }
}

fn is_semver<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

fn part<'a>(args: &[Value<'a>], at: usize) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Semver(version) => {
            let number = version.numbers.get(at).copied().unwrap_or_default();
            // Go converts without a look, so what is too large turns negative there too.
            Ok(Value::Int(number as i64))
        }
        _ => EvalError::no_overload(),
    }
}
