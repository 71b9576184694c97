//! Lists as sets.

use super::{
    Function, cost, function,
    operators::{arg, equal},
};
use crate::value::{EvalError, List, Outcome, Value};

const TWO: &[&str] = &["list(T), list(T) -> bool"];

pub(super) const FUNCTIONS: &[Function] = &[
    function("sets.contains", |_, a| test(a, |one, two| holds(one, two)), cost::product, TWO),
    function(
        "sets.equivalent",
        |_, a| test(a, |one, two| Ok(holds(one, two)? && holds(two, one)?)),
        cost::product_twice,
        TWO,
    ),
    function("sets.intersects", |_, a| test(a, meets), cost::product, TWO),
];

fn test<'a>(
    args: &[Value<'a>],
    fits: fn(&List<'a>, &List<'a>) -> Result<bool, EvalError>,
) -> Outcome<'a> {
    match (arg(args, 0), arg(args, 1)) {
        (Value::List(one), Value::List(two)) => fits(one, two).map(Value::Bool),
        _ => EvalError::no_overload(),
    }
}

fn has(list: &List<'_>, wanted: &Value<'_>) -> Result<bool, EvalError> {
    for item in list.iter() {
        if equal(&item?, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds(list: &List<'_>, all: &List<'_>) -> Result<bool, EvalError> {
    for item in all.iter() {
        if !has(list, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn meets(list: &List<'_>, any: &List<'_>) -> Result<bool, EvalError> {
    for item in any.iter() {
        if has(list, &item?)? {
            return Ok(true);
        }
    }
    Ok(false)
}
