//! What expressions that make JSON patches need.

use super::{Function, cost, function, operators::arg};
use crate::{
    eval::Run,
    value::{EvalError, Outcome, Value},
};

pub(super) const FUNCTIONS: &[Function] =
    &[function("jsonpatch.escapeKey", escape_key, cost::first, &["string -> string"])];

/// A key as part of a path.
fn escape_key<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::String(key) => Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))),
        _ => EvalError::no_overload(),
    }
}
