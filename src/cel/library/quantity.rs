//! Amounts of resources.

use std::cmp::Ordering;

use apimachinery::quantity::{Format, Quantity};

use super::{Function, cost, function, operators::arg};
use crate::{
    eval::Run,
    value::{EvalError, Outcome, Value},
};

const TEST: &[&str] = &[
    "kubernetes.Quantity | kubernetes.Quantity -> bool",
    "kubernetes.Semver | kubernetes.Semver -> bool",
];
const SUM: &[&str] = &[
    "kubernetes.Quantity | kubernetes.Quantity -> kubernetes.Quantity",
    "kubernetes.Quantity | int -> kubernetes.Quantity",
];

pub(super) const FUNCTIONS: &[Function] = &[
    function("quantity", |_, args| quantity(args), cost::first, &["string -> kubernetes.Quantity"]),
    function("isQuantity", |_, args| is_quantity(args), cost::first, &["string -> bool"]),
    function("sign", |_, args| sign(args), cost::one, &["kubernetes.Quantity -> int"]),
    function(
        "isInteger",
        |_, args| is_integer(args),
        cost::one,
        &["kubernetes.Quantity | -> bool"],
    ),
    function("asInteger", |_, args| as_integer(args), cost::one, &["kubernetes.Quantity | -> int"]),
    function(
        "asApproximateFloat",
        |_, args| as_float(args),
        cost::one,
        &["kubernetes.Quantity | -> double"],
    ),
    function("add", |_, args| combine(args, |a, b| a + b), cost::one, SUM),
    function("sub", |_, args| combine(args, |a, b| a - b), cost::one, SUM),
    function("isGreaterThan", |_, args| test(args, Ordering::is_gt), cost::one, TEST),
    function("isLessThan", |_, args| test(args, Ordering::is_lt), cost::one, TEST),
    function(
        "compareTo",
        compare_to,
        cost::one,
        &[
            "kubernetes.Quantity | kubernetes.Quantity -> int",
            "kubernetes.Semver | kubernetes.Semver -> int",
        ],
    ),
];

fn quantity<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::String(text) = arg(args, 0) else { return EvalError::no_overload() };
    match Quantity::parse(text) {
        Ok(quantity) => Ok(Value::Quantity(quantity)),
        Err(error) => EvalError::new(error.to_string()),
    }
}

fn is_quantity<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let Value::String(text) = arg(args, 0) else { return EvalError::no_overload() };
    Ok(Value::Bool(Quantity::parse(text).is_ok()))
}

fn this(args: &[Value<'_>]) -> Result<Quantity, EvalError> {
    match arg(args, 0) {
        Value::Quantity(quantity) => Ok(*quantity),
        _ => EvalError::no_overload(),
    }
}

fn sign<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Int(this(args)?.cmp(&Quantity::ZERO) as i64))
}

fn is_integer<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(this(args)?.as_i64().is_some()))
}

fn as_integer<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match this(args)?.as_i64() {
        Some(value) => Ok(Value::Int(value)),
        None => EvalError::new("cannot convert value to integer"),
    }
}

fn as_float<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Double(this(args)?.as_f64()))
}

fn combine<'a>(args: &[Value<'a>], how: fn(Quantity, Quantity) -> Quantity) -> Outcome<'a> {
    let other = match arg(args, 1) {
        Value::Quantity(other) => *other,
        Value::Int(other) => Quantity::new(*other, Format::DecimalSi),
        _ => return EvalError::no_overload(),
    };
    Ok(Value::Quantity(how(this(args)?, other)))
}

/// Quantities and versions have an order of their own, behind methods.
fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::Quantity(a), Value::Quantity(b)) => Ok(a.cmp(b)),
        (Value::Semver(a), Value::Semver(b)) => Ok(a.cmp(b)),
        _ => EvalError::no_overload(),
    }
}

fn test<'a>(args: &[Value<'a>], fits: fn(Ordering) -> bool) -> Outcome<'a> {
    order(args).map(|order| Value::Bool(fits(order)))
}

fn compare_to<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|order| Value::Int(order as i64))
}
