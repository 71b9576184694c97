//! Lists.

use std::cmp::Ordering;

use super::{
    Function, cost, function, number,
    operators::{arg, compare, equal},
};
use crate::{
    eval::Run,
    value::{EvalError, List, Nanos, Outcome, Value},
};

/// Longest list of numbers that is made at once.
const LONGEST_RANGE: u64 = 1_000_000;

const SORTED: &[&str] = &[
    "list(int) | -> bool",
    "list(uint) | -> bool",
    "list(double) | -> bool",
    "list(bool) | -> bool",
    "list(duration) | -> bool",
    "list(timestamp) | -> bool",
    "list(string) | -> bool",
    "list(bytes) | -> bool",
];

const ONE: &[&str] = &[
    "list(int) | -> int",
    "list(uint) | -> uint",
    "list(double) | -> double",
    "list(bool) | -> bool",
    "list(duration) | -> duration",
    "list(timestamp) | -> timestamp",
    "list(string) | -> string",
    "list(bytes) | -> bytes",
];

const SORT: &[&str] = &[
    "list(int) | -> list(int)",
    "list(uint) | -> list(uint)",
    "list(double) | -> list(double)",
    "list(bool) | -> list(bool)",
    "list(duration) | -> list(duration)",
    "list(timestamp) | -> list(timestamp)",
    "list(string) | -> list(string)",
    "list(bytes) | -> list(bytes)",
];

pub(super) const FUNCTIONS: &[Function] = &[
    function("isSorted", is_sorted, cost::through, SORTED),
    function("min", |_, args| extreme(args, "min", Ordering::is_lt), cost::through, ONE),
    function("max", |_, args| extreme(args, "max", Ordering::is_gt), cost::through, ONE),
    function(
        "sum",
        sum,
        cost::through,
        &[
            "list(int) | -> int",
            "list(uint) | -> uint",
            "list(double) | -> double",
            "list(duration) | -> duration",
        ],
    ),
    function("sort", sort, cost::square, SORT),
    function("includes", includes, cost::through, &["dyn | dyn -> bool"]),
    function("slice", slice, cost::one, &["list(T) | int, int -> list(T)"]),
    function("reverse", reverse, cost::copy, &["list(T) | -> list(T)"]),
    function("distinct", distinct, cost::square, &["list(T) | -> list(T)"]),
    function(
        "flatten",
        flatten,
        cost::eleven,
        &["list(list(T)) | -> list(T)", "list(dyn) | int -> list(dyn)"],
    ),
    function("lists.range", range, cost::one, &["int -> list(int)"]),
    function("first", |_, args| end(args, false), cost::one, &["list(V) | -> optional(V)"]),
    function("last", |_, args| end(args, true), cost::one, &["list(V) | -> optional(V)"]),
];

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, EvalError> {
    match arg(args, 0) {
        Value::List(list) => Ok(list),
        _ => EvalError::no_overload(),
    }
}

fn is_sorted<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let items = list(args)?.to_vec()?;
    for pair in items.windows(2) {
        if let [one, next] = pair
            && compare(one, next)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, better: fn(Ordering) -> bool) -> Outcome<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        let item = item?;
        match &best {
            Some(best) if !better(compare(&item, best)?) => {}
            _ => best = Some(item),
        }
    }
    best.map_or_else(|| EvalError::new(format!("{name} called on empty list")), Ok)
}

fn sum<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let mut total: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        let item = item?;
        total = Some(match (total, item) {
            (None, item) => item,
            (Some(Value::Duration(Nanos(a))), Value::Duration(Nanos(b))) => {
                match a.checked_add(b) {
                    Some(nanos) => Value::Duration(Nanos(nanos)),
                    None => return EvalError::new("duration overflow"),
                }
            }
            (Some(total), item) => number::add(&[total, item])?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

/// Sorts without a panic where the order is none: what cannot be compared is an error before.
fn sorted<'a, T>(mut items: Vec<(Value<'a>, T)>) -> Result<Vec<(Value<'a>, T)>, EvalError> {
    for pair in items.windows(2) {
        if let [one, next] = pair {
            compare(&one.0, &next.0)?;
        }
    }
    let mut failed = None;
    items.sort_by(|one, next| match compare(&one.0, &next.0) {
        Ok(order) => order,
        Err(error) => {
            failed = Some(error);
            Ordering::Equal
        }
    });
    failed.map_or(Ok(items), Err)
}

fn sort<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let items = list(args)?.to_vec()?.into_iter().map(|item| (item, ())).collect();
    Ok(Value::list(sorted(items)?.into_iter().map(|(item, ())| item).collect()))
}

/// The items in the order of their keys; behind `sortBy`.
pub(crate) fn sort_by<'a>(items: Vec<Value<'a>>, keys: Vec<Value<'a>>) -> Outcome<'a> {
    let both = keys.into_iter().zip(items).collect();
    Ok(Value::list(sorted(both)?.into_iter().map(|(_, item)| item).collect()))
}

pub(super) fn index_of<'a>(list: &List<'a>, wanted: &Value<'a>, last: bool) -> Outcome<'a> {
    let mut found = -1;
    for (at, item) in list.iter().enumerate() {
        if equal(&item?, wanted)? {
            found = at as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn includes<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    for item in list(args)?.iter() {
        if equal(&item?, arg(args, 1))? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn slice<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let list = list(args)?;
    let (Value::Int(start), Value::Int(end)) = (arg(args, 1), arg(args, 2)) else {
        return EvalError::no_overload();
    };
    let length = list.len();
    if *start < 0 || *end < 0 {
        return EvalError::new(format!(
            "cannot slice({start}, {end}), negative indexes not supported"
        ));
    }
    if start > end {
        return EvalError::new(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        ));
    }
    match (usize::try_from(*start), usize::try_from(*end)) {
        (Ok(from), Ok(to)) if to <= length => {
            run.charge((to.saturating_sub(from) as u64).saturating_add(10))?;
            let items = (from..to).filter_map(|at| list.get(at));
            Ok(Value::list(items.collect::<Result<_, _>>()?))
        }
        _ => EvalError::new(format!("cannot slice({start}, {end}), list is length {length}")),
    }
}

fn reverse<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let mut items = list(args)?.to_vec()?;
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    'next: for item in list(args)?.iter() {
        let item = item?;
        for other in &kept {
            if equal(&item, other)? {
                continue 'next;
            }
        }
        kept.push(item);
    }
    Ok(Value::list(kept))
}

fn flatten<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let depth = match args.get(1) {
        None => 1,
        Some(Value::Int(depth)) if *depth < 0 => {
            return EvalError::new("level must be non-negative");
        }
        Some(Value::Int(depth)) => *depth,
        Some(_) => return EvalError::no_overload(),
    };
    let mut flat = Vec::new();
    flatten_into(run, list(args)?, depth.min(100), &mut flat)?;
    Ok(Value::list(flat))
}

fn flatten_into<'a>(
    run: &Run<'a>,
    list: &List<'a>,
    depth: i64,
    flat: &mut Vec<Value<'a>>,
) -> Result<(), EvalError> {
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => {
                run.charge(inner.len() as u64)?;
                flatten_into(run, &inner, depth - 1, flat)?;
            }
            item => flat.push(item),
        }
    }
    Ok(())
}

fn range<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let Value::Int(end) = arg(args, 0) else { return EvalError::no_overload() };
    let Ok(length) = u64::try_from(*end) else {
        return EvalError::new(format!("lists.range: size must be non-negative, got {end}"));
    };
    if length > LONGEST_RANGE {
        let message = format!("lists.range: size {end} exceeds maximum allowed ({LONGEST_RANGE})");
        return EvalError::new(message);
    }
    run.charge(length.saturating_add(10))?;
    Ok(Value::list((0..*end).map(Value::Int).collect()))
}

fn end<'a>(args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let list = list(args)?;
    let at = if last { list.len().checked_sub(1) } else { Some(0) };
    match at.and_then(|at| list.get(at)) {
        Some(item) => Ok(Value::some(item?)),
        None => Ok(Value::Optional(None)),
    }
}
