//! Expressions that select devices.

use std::sync::OnceLock;

use apimachinery::field::{FieldError, Path};
use cel::{Env, Type};
use serde_json::Value;

use crate::{
    expressions::Record,
    kinds::{
        validation::{Errors, Report as _},
        value::Fields as _,
    },
};

/// Most selectors of a request or class.
const MOST: usize = 32;
const LONGEST: usize = 10 << 10;

/// The selectors of a request or class; `stored` ones have passed before.
pub(super) fn selectors(object: &Value, stored: bool, path: &Path, errors: &mut Errors) {
    let selectors = object.list("selectors");
    if selectors.len() > MOST {
        return;
    }
    for (at, selector) in selectors.iter().enumerate() {
        let path = path.child("selectors").index(at).child("cel");
        match selector.sub("cel") {
            None => errors.required(&path, ""),
            Some(_) if stored => {}
            Some(cel) => expression(cel.text("expression"), &path.child("expression"), errors),
        }
    }
}

fn expression(text: &str, path: &Path, errors: &mut Errors) {
    if text.len() > LONGEST {
        return errors.push(FieldError::too_long(path, LONGEST));
    }
    match environment().compile(text) {
        Err(issues) => errors.invalid(path, text, &format!("compilation failed: {issues}")),
        Ok(program) => match program.result() {
            Type::Bool | Type::Dyn => {}
            other => {
                let detail = format!("must evaluate to bool or the unknown type, not {other}");
                errors.invalid(path, text, &detail);
            }
        },
    }
}

/// What an expression knows of a device.
fn environment() -> &'static Env {
    static OF: OnceLock<Env> = OnceLock::new();
    OF.get_or_init(|| {
        let by_domain = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
        let device = Record::of(
            "kubernetes.DRADevice",
            [
                ("driver", Type::String),
                ("allowMultipleAllocations", Type::Bool),
                ("attributes", by_domain(Type::Dyn)),
                ("capacity", by_domain(Type::Opaque("kubernetes.Quantity"))),
            ],
        );
        Env::new().with("device", device)
    })
}
