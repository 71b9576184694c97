//! Text. Places in it are counted in characters.

use super::{Function, cost, format, function, lists, operators::arg};
use crate::{
    ast::Expr,
    eval::Run,
    value::{EvalError, Outcome, Value},
};

/// Most octets that a text made here may have.
const LARGEST: usize = 16 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "contains",
        |_, a| test(a, |t, p| t.contains(p)),
        cost::contains,
        &["string | string -> bool"],
    ),
    function(
        "startsWith",
        |_, a| test(a, |t, p| t.starts_with(p)),
        cost::second,
        &["string | string -> bool"],
    ),
    function(
        "endsWith",
        |_, a| test(a, |t, p| t.ends_with(p)),
        cost::second,
        &["string | string -> bool"],
    ),
    function("charAt", char_at, cost::one, &["string | int -> string"]),
    function(
        "indexOf",
        index_of,
        cost::through,
        &["string | string -> int", "string | string, int -> int", "list(A) | A -> int"],
    ),
    function(
        "lastIndexOf",
        last_index_of,
        cost::through,
        &["string | string -> int", "string | string, int -> int", "list(A) | A -> int"],
    ),
    function(
        "join",
        join,
        cost::join,
        &["list(string) | -> string", "list(string) | string -> string"],
    ),
    function(
        "lowerAscii",
        |_, a| change(a, str::to_ascii_lowercase),
        cost::first,
        &["string | -> string"],
    ),
    function(
        "upperAscii",
        |_, a| change(a, str::to_ascii_uppercase),
        cost::first,
        &["string | -> string"],
    ),
    function(
        "trim",
        |_, a| change(a, |text| text.trim().to_owned()),
        cost::first,
        &["string | -> string"],
    ),
    function(
        "replace",
        replace,
        cost::first_twice,
        &["string | string, string -> string", "string | string, string, int -> string"],
    ),
    function(
        "split",
        split,
        cost::first_twice,
        &["string | string -> list(string)", "string | string, int -> list(string)"],
    ),
    function(
        "substring",
        substring,
        cost::first,
        &["string | int -> string", "string | int, int -> string"],
    ),
    function("strings.quote", |_, a| change(a, quote), cost::first, &["string -> string"]),
    function("format", format::format, cost::first, &["string | list(dyn) -> string"]),
];

/// What is wrong with the clauses of a format that is written down, and with which argument.
pub(crate) fn check_format(
    text: &str,
    args: &[crate::ast::Item],
) -> Option<(Option<usize>, String)> {
    format::check(text, args.len(), &|at| {
        use crate::ast::{Kind, Literal};
        let expr: &Expr = &args.get(at)?.value;
        match &expr.kind {
            Kind::Literal(literal) => Some(match literal {
                Literal::Null => "null_type",
                Literal::Bool(_) => "bool",
                Literal::Int(_) => "int",
                Literal::Uint(_) => "uint",
                Literal::Double(_) => "double",
                Literal::String(_) => "string",
                Literal::Bytes(_) => "bytes",
            }),
            _ => None,
        }
    })
}

fn test<'a>(args: &[Value<'a>], fits: fn(&str, &str) -> bool) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::String(text), Value::String(part)) => Ok(Value::Bool(fits(text, part))),
        _ => EvalError::no_overload(),
    }
}

fn change<'a>(args: &[Value<'a>], to: fn(&str) -> String) -> Outcome<'a> {
    match arg(args, 0) {
        Value::String(text) => Ok(Value::text(to(text))),
        _ => EvalError::no_overload(),
    }
}

/// The octet at which the character of that number begins.
fn octet(text: &str, at: i64) -> Option<usize> {
    let at = usize::try_from(at).ok()?;
    let mut places = text.char_indices().map(|(place, _)| place).chain([text.len()]);
    places.nth(at)
}

fn out_of_range<'a>(at: i64) -> Outcome<'a> {
    EvalError::new(format!("index out of range: {at}"))
}

fn char_at<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::String(text), Value::Int(at)) = (arg(args, 0), arg(args, 1)) else {
        return EvalError::no_overload();
    };
    match octet(text, *at) {
        Some(place) => Ok(Value::text(text[place..].chars().take(1).collect::<String>())),
        None => out_of_range(*at),
    }
}

fn characters<'a>(text: &str) -> Value<'a> {
    Value::Int(text.chars().count() as i64)
}

fn index_of<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part) = match (arg(args, 0), arg(args, 1)) {
        (Value::List(list), item) => return lists::index_of(list, item, false),
        (Value::String(text), Value::String(part)) => (text, part),
        _ => return EvalError::no_overload(),
    };
    let from = match args.get(2) {
        None => 0,
        Some(Value::Int(from)) if *from < 0 => return out_of_range(*from),
        Some(Value::Int(from)) => *from,
        Some(_) => return EvalError::no_overload(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from.min(text.chars().count() as i64)));
    }
    let found = octet(text, from).and_then(|from| Some(from + text[from..].find(&**part)?));
    Ok(found.map_or(Value::Int(-1), |place| characters(&text[..place])))
}

fn last_index_of<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part) = match (arg(args, 0), arg(args, 1)) {
        (Value::List(list), item) => return lists::index_of(list, item, true),
        (Value::String(text), Value::String(part)) => (text, part),
        _ => return EvalError::no_overload(),
    };
    let from = match args.get(2) {
        None => i64::MAX,
        Some(Value::Int(from)) if *from < 0 => return out_of_range(*from),
        Some(Value::Int(from)) if !part.is_empty() && octet(text, *from).is_none() => {
            return Ok(Value::Int(-1));
        }
        Some(Value::Int(from)) => *from,
        Some(_) => return EvalError::no_overload(),
    };
    // What begins at `from` at the latest ends no later than the part's length behind it.
    let end = octet(text, from)
        .and_then(|start| start.checked_add(part.len()))
        .unwrap_or(text.len())
        .min(text.len());
    let mut end = end;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(text[..end].rfind(&**part).map_or(Value::Int(-1), |place| characters(&text[..place])))
}

fn join<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let Value::List(list) = arg(args, 0) else { return EvalError::no_overload() };
    let between = match args.get(1) {
        None => "",
        Some(Value::String(text)) => text,
        Some(_) => return EvalError::no_overload(),
    };
    let mut joined = String::new();
    for (at, item) in list.iter().enumerate() {
        let Value::String(item) = item? else { return EvalError::no_overload() };
        if at > 0 {
            joined.push_str(between);
        }
        joined.push_str(&item);
        bounded(run, joined.len())?;
    }
    Ok(Value::text(joined))
}

fn bounded(run: &Run<'_>, length: usize) -> Result<(), EvalError> {
    if length > LARGEST { run.charge(u64::MAX) } else { Ok(()) }
}

/// How often something is to be done at most; none for as often as it can.
fn limit(value: Option<&Value<'_>>) -> Result<Option<usize>, EvalError> {
    match value {
        None => Ok(None),
        Some(Value::Int(limit)) => Ok(usize::try_from(*limit).ok()),
        Some(_) => EvalError::no_overload(),
    }
}

fn replace<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::String(text), Value::String(old), Value::String(new)) =
        (arg(args, 0), arg(args, 1), arg(args, 2))
    else {
        return EvalError::no_overload();
    };
    let most = limit(args.get(3))?.unwrap_or(usize::MAX);
    let count = text.matches(&**old).count().min(most);
    bounded(run, count.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(Value::text(text.replacen(&**old, new, count)))
}

fn split<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::String(text), Value::String(by)) = (arg(args, 0), arg(args, 1)) else {
        return EvalError::no_overload();
    };
    let most = limit(args.get(2))?;
    let value = |part: &str| Value::text(part.to_owned());
    let parts = match most {
        Some(0) => Vec::new(),
        Some(1) => vec![value(text)],
        _ if by.is_empty() => {
            let most = most.unwrap_or(usize::MAX);
            let mut parts = Vec::new();
            let mut rest: &str = text;
            while let Some(c) = rest.chars().next() {
                if parts.len() + 1 == most {
                    parts.push(value(rest));
                    break;
                }
                let (one, behind) = rest.split_at(c.len_utf8());
                parts.push(value(one));
                rest = behind;
            }
            parts
        }
        Some(most) => text.splitn(most, &**by).map(value).collect(),
        None => text.split(&**by).map(value).collect(),
    };
    Ok(Value::list(parts))
}

fn substring<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::String(text), Value::Int(start)) = (arg(args, 0), arg(args, 1)) else {
        return EvalError::no_overload();
    };
    let end = match args.get(2) {
        None => None,
        Some(Value::Int(end)) => Some(*end),
        Some(_) => return EvalError::no_overload(),
    };
    if let Some(end) = end
        && *start > end
    {
        let message = format!("invalid substring range. start: {start}, end: {end}");
        return EvalError::new(message);
    }
    let Some(from) = octet(text, *start) else { return out_of_range(*start) };
    let to = match end {
        None => text.len(),
        Some(end) => match octet(text, end) {
            Some(to) => to,
            None => return out_of_range(end),
        },
    };
    Ok(Value::text(text[from..to].to_owned()))
}

/// Text in quotes, with escapes for what is not to be seen.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
