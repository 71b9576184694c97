//! Patterns. Go's classes `\d`, `\s`, `\w` and `\b` know ASCII only, so they are put in other words.

use regex::{Regex, RegexBuilder};

use super::{Function, cost, function, operators::arg};
use crate::{
    eval::Run,
    value::{EvalError, Outcome, Value},
};

/// Largest compiled pattern.
const LARGEST: usize = 1 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "matches",
        matches,
        cost::pattern,
        &["string, string -> bool", "string | string -> bool"],
    ),
    function("find", find, cost::pattern, &["string | string -> string"]),
    function(
        "findAll",
        find_all,
        cost::pattern,
        &["string | string -> list(string)", "string | string, int -> list(string)"],
    ),
];

/// Compiles a pattern as Go has it.
///
/// # Errors
/// What is wrong with it, in Go's words.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .size_limit(LARGEST)
        .dfa_size_limit(LARGEST)
        .nest_limit(100)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "error parsing regexp: expression too large".to_owned()
            }
            _ if opens(pattern) > 0 => {
                format!("error parsing regexp: missing closing ): `{pattern}`")
            }
            _ => format!("error parsing regexp: invalid expression: `{pattern}`"),
        })
}

/// How many groups are open at the end.
fn opens(pattern: &str) -> i64 {
    let (mut open, mut class, mut escaped) = (0i64, false, false);
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => open = open.saturating_add(1),
            ')' if !class => open = open.saturating_sub(1),
            _ => {}
        }
    }
    open
}

fn translate(pattern: &str) -> String {
    let mut made = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    let mut class = false;
    while let Some(c) = chars.next() {
        if c != '\\' {
            match c {
                '[' if class && !chars.as_str().starts_with(':') => made.push('\\'),
                '[' => class = true,
                ']' if class => class = false,
                '&' | '~' | '-' if class && chars.as_str().starts_with(c) => made.push('\\'),
                _ => {}
            }
            made.push(c);
            if c == '[' && chars.as_str().starts_with(":") && class {
                // A named class inside of this one.
                for c in chars.by_ref() {
                    made.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            continue;
        }
        match chars.next() {
            Some('d') if class => made.push_str("0-9"),
            Some('w') if class => made.push_str("0-9A-Za-z_"),
            Some('s') if class => made.push_str("\\t\\n\\x0C\\r "),
            Some('d') => made.push_str("[0-9]"),
            Some('D') => made.push_str("[^0-9]"),
            Some('w') => made.push_str("[0-9A-Za-z_]"),
            Some('W') => made.push_str("[^0-9A-Za-z_]"),
            Some('s') => made.push_str("[\\t\\n\\x0C\\r ]"),
            Some('S') => made.push_str("[^\\t\\n\\x0C\\r ]"),
            Some('b') => made.push_str("(?-u:\\b)"),
            Some('Q') => {
                let rest = chars.as_str();
                let (text, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
                made.push_str(&regex::escape(text));
                chars = behind.chars();
            }
            Some(other) => {
                made.push('\\');
                made.push(other);
            }
            None => made.push('\\'),
        }
    }
    made
}

fn texts<'v, 'a>(args: &'v [Value<'a>]) -> Result<(&'v str, &'v str), EvalError> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::String(text), Value::String(pattern)) => Ok((text, pattern)),
        _ => EvalError::no_overload(),
    }
}

fn matches<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, pattern) = texts(args)?;
    Ok(Value::Bool(run.regex(pattern)?.is_match(text)))
}

fn find<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, pattern) = texts(args)?;
    let found = run.regex(pattern)?;
    Ok(Value::text(found.find(text).map_or("", |found| found.as_str())))
}

fn find_all<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, pattern) = texts(args)?;
    let most = match args.get(2) {
        None => usize::MAX,
        Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
        Some(_) => return EvalError::no_overload(),
    };
    let regex = run.regex(pattern)?;
    let all = regex.find_iter(text).take(most).map(|found| Value::text(found.as_str()));
    Ok(Value::list(all.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, fits) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١", false),
            (r"^[\w-]+$", "a-b", true),
            (r"^[^\d]$", "x", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[a[]$", "[", true),
            (r"^[a&&b]$", "&", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), fits, "{pattern}");
        }
    }

    #[test]
    fn hostile_patterns_are_refused() {
        for pattern in ["(", "[", "\\", "a{100000}", "(((((a{99}){99}){99}){99}){99})", "*"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile(&"(".repeat(10_000)).is_err());
    }
}
