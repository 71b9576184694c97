//! What a MutatingAdmissionPolicy changes.

use apimachinery::field::Path;
use cel::Env;
use serde_json::Value;

use crate::{
    expressions::{compile, objects},
    kinds::{
        validation::{Errors, Report as _, one_of},
        value::Fields as _,
    },
};

/// Checks the mutations and what belongs to them alone.
pub(super) fn validate(spec: &Value, env: &Env, path: &Path, errors: &mut Errors) {
    let all = spec.list("mutations");
    if all.is_empty() {
        errors.required(&path.child("mutations"), "mutations must contain at least one item");
    }
    let env = objects::declare(env.clone());
    for (at, mutation) in all.iter().enumerate() {
        one(mutation, &env, &path.child("mutations").index(at), errors);
    }
    one_of(spec, "reinvocationPolicy", path, &["IfNeeded", "Never"], errors);
}

fn one(mutation: &Value, env: &Env, path: &Path, errors: &mut Errors) {
    let kind = mutation.text("patchType");
    let (field, other, gives) = match kind {
        "JSONPatch" => ("jsonPatch", "applyConfiguration", objects::patches()),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", objects::object()),
        "" => return errors.required(&path.child("patchType"), ""),
        _ => {
            let known = ["ApplyConfiguration", "JSONPatch"];
            return errors.unsupported(&path.child("patchType"), kind, &known);
        }
    };
    match mutation.sub(field) {
        None => {
            let why = format!("must be specified when patchType is {kind}");
            errors.required(&path.child(field), &why);
        }
        Some(patch) => {
            let path = path.child(field).child("expression");
            let expression = patch.text("expression").trim();
            if expression.is_empty() {
                errors.required(&path, "");
            } else if let Err(error) = compile(env, expression, &[gives]) {
                errors.invalid(&path, expression, &error);
            }
        }
    }
    if mutation.has(other) {
        let why = format!("must not be specified when patchType is {kind}");
        errors.invalid(&path.child(other), format!("{{{other}}}"), &why);
    }
}
