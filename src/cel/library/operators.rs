//! Operators, and what the language says of equality and order.

use std::cmp::Ordering;

use super::{Function, cost, function, number, time};
use crate::{
    eval::Run,
    value::{Entries, EvalError, Items, Key, List, ListKind, Outcome, Value},
};

const COMPARED: &[&str] = &[
    "bool, bool -> bool",
    "int, int -> bool",
    "int, double -> bool",
    "int, uint -> bool",
    "uint, uint -> bool",
    "uint, double -> bool",
    "uint, int -> bool",
    "double, double -> bool",
    "double, int -> bool",
    "double, uint -> bool",
    "string, string -> bool",
    "bytes, bytes -> bool",
    "timestamp, timestamp -> bool",
    "duration, duration -> bool",
];

pub(super) const FUNCTIONS: &[Function] = &[
    function("!_", not, cost::one, &["bool -> bool"]),
    function("-_", negate, cost::one, &["double -> double", "int -> int"]),
    function("_==_", |_, args| equality(args, true), cost::both, &["A, A -> bool"]),
    function("_!=_", |_, args| equality(args, false), cost::both, &["A, A -> bool"]),
    function("_<_", |_, args| order(args, Ordering::is_lt), cost::order, COMPARED),
    function("_<=_", |_, args| order(args, Ordering::is_le), cost::order, COMPARED),
    function("_>_", |_, args| order(args, Ordering::is_gt), cost::order, COMPARED),
    function("_>=_", |_, args| order(args, Ordering::is_ge), cost::order, COMPARED),
    function("@in", is_in, cost::through_second, &["A, list(A) -> bool", "A, map(A, B) -> bool"]),
    function(
        "_+_",
        add,
        cost::sum,
        &[
            "bytes, bytes -> bytes",
            "double, double -> double",
            "duration, duration -> duration",
            "duration, timestamp -> timestamp",
            "timestamp, duration -> timestamp",
            "int, int -> int",
            "list(A), list(A) -> list(A)",
            "string, string -> string",
            "uint, uint -> uint",
        ],
    ),
    function(
        "_-_",
        |_, args| subtract(args),
        cost::one,
        &[
            "double, double -> double",
            "duration, duration -> duration",
            "int, int -> int",
            "timestamp, duration -> timestamp",
            "timestamp, timestamp -> duration",
            "uint, uint -> uint",
        ],
    ),
    function(
        "_*_",
        |_, args| number::multiply(args),
        cost::one,
        &["double, double -> double", "int, int -> int", "uint, uint -> uint"],
    ),
    function(
        "_/_",
        |_, args| number::divide(args),
        cost::one,
        &["double, double -> double", "int, int -> int", "uint, uint -> uint"],
    ),
    function(
        "_%_",
        |_, args| number::modulo(args),
        cost::one,
        &["int, int -> int", "uint, uint -> uint"],
    ),
    function(
        "_[_]",
        |_, args| index(args),
        cost::one,
        &[
            "list(A), int -> A",
            "map(A, B), A -> B",
            "optional(list(V)), int -> optional(V)",
            "optional(map(K, V)), K -> optional(V)",
        ],
    ),
    function(
        "_[?_]",
        |_, args| super::optional::index(args),
        cost::one,
        &[
            "list(V), int -> optional(V)",
            "optional(list(V)), int -> optional(V)",
            "map(K, V), K -> optional(V)",
            "optional(map(K, V)), K -> optional(V)",
        ],
    ),
    function("dyn", |_, args| Ok(arg(args, 0).clone()), cost::one, &["A -> dyn"]),
    function(
        "type",
        |_, args| Ok(Value::Type(arg(args, 0).type_name().into())),
        cost::one,
        &["A -> type(A)"],
    ),
    function(
        "size",
        size,
        cost::one,
        &[
            "bytes -> int",
            "bytes | -> int",
            "list(A) -> int",
            "list(A) | -> int",
            "map(A, B) -> int",
            "map(A, B) | -> int",
            "string -> int",
            "string | -> int",
        ],
    ),
];

/// An argument; the checker has counted them.
pub(super) fn arg<'v, 'a>(args: &'v [Value<'a>], at: usize) -> &'v Value<'a> {
    args.get(at).unwrap_or(&Value::Null)
}

fn not<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Bool(value) => Ok(Value::Bool(!value)),
        _ => EvalError::no_overload(),
    }
}

fn negate<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Int(value) => match value.checked_neg() {
            Some(value) => Ok(Value::Int(value)),
            None => EvalError::new("integer overflow"),
        },
        Value::Double(value) => Ok(Value::Double(-value)),
        _ => EvalError::no_overload(),
    }
}

fn size<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        value @ (Value::String(_)
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Object(_)) => Ok(Value::Int(value.size() as i64)),
        _ => EvalError::new("no such overload: size"),
    }
}

fn equality<'a>(args: &[Value<'a>], wanted: bool) -> Outcome<'a> {
    Ok(Value::Bool(equal(arg(args, 0), arg(args, 1))? == wanted))
}

/// Whether two values are the same. Numbers are by value, whatever their types; what is of
/// different types is not the same.
pub(crate) fn equal(one: &Value<'_>, another: &Value<'_>) -> Result<bool, EvalError> {
    equal_at(one, another, 0)
}

fn equal_at(one: &Value<'_>, another: &Value<'_>, depth: usize) -> Result<bool, EvalError> {
    if depth > 100 {
        return EvalError::new("values are nested too deeply");
    }
    if let Some(order) = number::order(one, another) {
        return Ok(order == Some(Ordering::Equal));
    }
    Ok(match (one, another) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::List(a), Value::List(b)) => lists_equal(a, b, depth)?,
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries()? {
                let Some(other) = b.get(&key) else { return Ok(false) };
                if !equal_at(&value, &other?, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Object(a), Value::Object(b)) => {
            let (a, b) = (a.set()?, b.set()?);
            if a.len() != b.len() {
                return Ok(false);
            }
            for (name, value) in &a {
                match b.iter().find(|(other, _)| other == name) {
                    Some((_, other)) if equal_at(value, other, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => equal_at(a, b, depth + 1)?,
            _ => false,
        },
        (Value::Quantity(a), Value::Quantity(b)) => a == b,
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Url(a), Value::Url(b)) => a == b,
        (Value::Semver(a), Value::Semver(b)) => a.cmp(b).is_eq(),
        (Value::Format(a), Value::Format(b)) => a.name == b.name,
        _ => false,
    })
}

fn lists_equal(one: &List<'_>, another: &List<'_>, depth: usize) -> Result<bool, EvalError> {
    if one.len() != another.len() {
        return Ok(false);
    }
    if !matches!(one.kind, ListKind::Plain) {
        let others = another.to_vec()?;
        'next: for item in one.iter() {
            let item = item?;
            for other in &others {
                if equal_at(&item, other, depth + 1)? {
                    continue 'next;
                }
            }
            return Ok(false);
        }
        return Ok(true);
    }
    for (a, b) in one.iter().zip(another.iter()) {
        if !equal_at(&a?, &b?, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two values that have one.
pub(crate) fn compare(one: &Value<'_>, another: &Value<'_>) -> Result<Ordering, EvalError> {
    match number::order(one, another) {
        Some(Some(order)) => return Ok(order),
        Some(None) => return EvalError::new("NaN values cannot be ordered"),
        None => {}
    }
    Ok(match (one, another) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        _ => return EvalError::no_overload(),
    })
}

fn order<'a>(args: &[Value<'a>], fits: fn(Ordering) -> bool) -> Outcome<'a> {
    compare(arg(args, 0), arg(args, 1)).map(|order| Value::Bool(fits(order)))
}

fn is_in<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let wanted = arg(args, 0);
    match arg(args, 1) {
        Value::List(list) => {
            for item in list.iter() {
                if equal(&item?, wanted)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Value::Map(map) => Ok(Value::Bool(map.get(wanted).is_some())),
        Value::Object(object) => match wanted {
            Value::String(name) => Ok(Value::Bool(object.field(name).is_some())),
            _ => Ok(Value::Bool(false)),
        },
        _ => EvalError::no_overload(),
    }
}

fn add<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::String(a), Value::String(b)) => {
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(a);
            text.push_str(b);
            Ok(Value::text(text))
        }
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (Value::List(a), Value::List(b)) => add_lists(run, a, b),
        (Value::Duration(a), Value::Duration(b)) => time::add_durations(*a, *b),
        (Value::Timestamp(moment), Value::Duration(span))
        | (Value::Duration(span), Value::Timestamp(moment)) => time::later(*moment, span.0),
        _ => number::add(args),
    }
}

/// Sets and keyed lists take what is new, and keyed ones what has changed; others are put behind.
fn add_lists<'a>(run: &Run<'a>, one: &List<'a>, another: &List<'a>) -> Outcome<'a> {
    let mut items = one.to_vec()?;
    match &one.kind {
        ListKind::Plain => items.extend(another.to_vec()?),
        kind => {
            for item in another.iter() {
                let item = item?;
                run.charge(items.len() as u64)?;
                let same = |other: &Value<'a>| match kind {
                    ListKind::Keyed(keys) => same_keys(other, &item, keys),
                    _ => equal(other, &item),
                };
                let mut found = None;
                for (at, other) in items.iter().enumerate() {
                    if same(other)? {
                        found = Some(at);
                        break;
                    }
                }
                match found.and_then(|at| items.get_mut(at)) {
                    Some(slot) => *slot = item,
                    None => items.push(item),
                }
            }
        }
    }
    let kind = one.kind.clone();
    Ok(Value::List(List { items: Items::Owned(items.into()), kind }))
}

fn same_keys(one: &Value<'_>, another: &Value<'_>, keys: &[String]) -> Result<bool, EvalError> {
    let (Value::Object(one), Value::Object(another)) = (one, another) else { return Ok(false) };
    let (one, another) = (one.set()?, another.set()?);
    let value = |set: &[(String, Value<'_>)], key: &String| {
        set.iter().find(|(name, _)| name == key).and_then(|(_, value)| Key::of(value))
    };
    Ok(keys.iter().all(|key| value(&one, key) == value(&another, key)))
}

fn subtract<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Duration(a), Value::Duration(b)) => match a.0.checked_sub(b.0) {
            Some(nanos) => Ok(time::span(nanos)),
            None => EvalError::new("duration overflow"),
        },
        (Value::Timestamp(moment), Value::Duration(span)) => match span.0.checked_neg() {
            Some(nanos) => time::later(*moment, nanos),
            None => EvalError::new("timestamp overflow"),
        },
        (Value::Timestamp(a), Value::Timestamp(b)) => time::between(*a, *b),
        _ => number::subtract(args),
    }
}

/// `of[key]`.
pub(crate) fn index<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let key = arg(args, 1);
    match arg(args, 0) {
        Value::List(list) => match number::position(key) {
            Some(at) => match usize::try_from(at).ok().and_then(|at| list.get(at)) {
                Some(item) => item,
                None => EvalError::new(format!("index out of bounds: {at}")),
            },
            None => EvalError::new(format!("unsupported index type '{}' in list", key.type_name())),
        },
        Value::Map(map) => map.get(key).unwrap_or_else(|| no_such_key(key)),
        Value::Object(object) => match key {
            Value::String(name) => object.field(name).unwrap_or_else(|| no_such_key(key)),
            _ => no_such_key(key),
        },
        Value::Host(host) => match key {
            Value::String(name) => host.field(name).unwrap_or_else(|| no_such_key(key)),
            _ => no_such_key(key),
        },
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(_)) => super::optional::index(args),
        _ => EvalError::no_overload(),
    }
}

fn no_such_key<'a>(key: &Value<'_>) -> Outcome<'a> {
    let shown = match key {
        Value::String(text) => text.to_string(),
        other => crate::show::show(other).trim_end_matches('u').to_owned(),
    };
    EvalError::new(format!("no such key: {shown}"))
}

/// A map with one entry more.
pub(crate) fn insert<'a>(
    entries: &mut Entries<'a>,
    key: Value<'a>,
    value: Value<'a>,
) -> Result<(), EvalError> {
    let shown = crate::show::show(&key);
    match entries.insert(key, value) {
        Some(true) => Ok(()),
        Some(false) => {
            EvalError::new(format!("insert failed: key {} already exists", shown.trim_matches('"')))
        }
        None => EvalError::new("unsupported key type"),
    }
}
