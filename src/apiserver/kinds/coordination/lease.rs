//! Leases.

use apimachinery::field::FieldError;
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, not_negative, spec},
    value::Fields as _,
};

pub(crate) struct Lease;

impl Hooks for Lease {
    fn validate_create(&self, _context: &Context<'_>, lease: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (inner, path) = (&lease["spec"], spec());
        if let Some(seconds) = inner.int("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            let path = path.child("leaseDurationSeconds");
            errors.invalid(&path, seconds, "must be greater than 0");
        }
        not_negative(inner, "leaseTransitions", &path, &mut errors);
        match inner.opt_text("strategy") {
            None | Some("OldestEmulationVersion") => {}
            Some(other) => {
                let path = path.child("strategy");
                errors.unsupported(&path, other, &["OldestEmulationVersion"]);
            }
        }
        let strategy = inner.text("strategy");
        if !inner.text("preferredHolder").is_empty() && strategy.is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            errors.forbidden(&path.child("preferredHolder"), detail);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        self.validate_create(context, new)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("coordination.k8s.io/leases")
    }

    fn cells(&self, lease: &Value) -> Vec<Value> {
        vec![name(lease), lease["spec"].text("holderIdentity").into(), age(lease)]
    }
}
