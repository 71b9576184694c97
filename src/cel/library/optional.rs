//! Something or nothing.

use super::{
    Function, cost, function,
    operators::{self, arg},
};
use crate::value::{EvalError, Outcome, Value};

const UNWRAP: &[&str] = &["list(optional(V)) -> list(V)"];

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "optional.of",
        |_, a| Ok(Value::some(arg(a, 0).clone())),
        cost::one,
        &["V -> optional(V)"],
    ),
    function(
        "optional.ofNonZeroValue",
        |_, args| of_non_zero(args),
        cost::one,
        &["V -> optional(V)"],
    ),
    function("optional.none", |_, _| Ok(Value::Optional(None)), cost::one, &["-> optional(V)"]),
    function("optional.unwrap", |_, args| unwrap(args), cost::one, UNWRAP),
    function("unwrapOpt", |_, args| unwrap(args), cost::one, &["list(optional(V)) | -> list(V)"]),
    function("hasValue", |_, args| has_value(args), cost::one, &["optional(V) | -> bool"]),
    function("value", |_, args| value(args), cost::one, &["optional(V) | -> V"]),
    // `or` and `orValue` look at their argument only where they have to; see the evaluation.
    function("or", |_, args| or(args), cost::one, &["optional(V) | optional(V) -> optional(V)"]),
    function("orValue", |_, args| or_value(args), cost::one, &["optional(V) | V -> V"]),
];

fn of_non_zero<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let value = arg(args, 0);
    Ok(if value.is_zero() { Value::Optional(None) } else { Value::some(value.clone()) })
}

fn unwrap<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::List(list) = arg(args, 0) else { return EvalError::no_overload() };
    let mut items = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(Some(of)) => items.push((*of).clone()),
            Value::Optional(None) => {}
            _ => return EvalError::no_overload(),
        }
    }
    Ok(Value::list(items))
}

fn has_value<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Optional(of) => Ok(Value::Bool(of.is_some())),
        _ => EvalError::no_overload(),
    }
}

fn value<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Optional(Some(of)) => Ok((**of).clone()),
        Value::Optional(None) => EvalError::new("optional.none() dereference"),
        _ => EvalError::no_overload(),
    }
}

fn or<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (one @ Value::Optional(Some(_)), _) => Ok(one.clone()),
        (Value::Optional(None), other @ Value::Optional(_)) => Ok(other.clone()),
        _ => EvalError::no_overload(),
    }
}

fn or_value<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Optional(Some(of)) => Ok((**of).clone()),
        Value::Optional(None) => Ok(arg(args, 1).clone()),
        _ => EvalError::no_overload(),
    }
}

/// `of[?key]`, and `of[key]` of an optional.
pub(super) fn index<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let key = arg(args, 1);
    let of = match arg(args, 0) {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(of)) => (**of).clone(),
        of => of.clone(),
    };
    let found = match &of {
        Value::List(list) => match super::number::position(key) {
            Some(at) => usize::try_from(at).ok().and_then(|at| list.get(at)),
            None => return operators::index(&[of, key.clone()]),
        },
        Value::Map(map) => map.get(key),
        Value::Object(object) => match key {
            Value::String(name) => object.field(name),
            _ => None,
        },
        Value::Host(host) => match key {
            Value::String(name) => host.field(name),
            _ => None,
        },
        _ => return EvalError::no_overload(),
    };
    Ok(match found.transpose()? {
        Some(value) => Value::some(value),
        None => Value::Optional(None),
    })
}
