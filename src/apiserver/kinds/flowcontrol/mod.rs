//! `flowcontrol.apiserver.k8s.io`.

pub(crate) mod flow_schema;
mod policy_rules;
pub(crate) mod priority_level;

use apimachinery::field::Path;
use serde_json::Value;

use super::{
    validation::{Errors, Report as _},
    value::Fields as _,
};

/// The conditions of a status: each has a type, and no other the same.
fn conditions(object: &Value, errors: &mut Errors) {
    let path = Path::root("status").child("conditions");
    let all = object["status"].list("conditions");
    for (at, condition) in all.iter().enumerate() {
        let (path, kind) = (path.index(at).child("type"), condition.text("type"));
        if all[..at].iter().any(|other| other.text("type") == kind) {
            errors.duplicate(&path, kind);
        }
        if kind.is_empty() {
            errors.required(&path, "");
        }
    }
}
