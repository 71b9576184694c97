//! Leases.

use apimachinery::field::FieldError;
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, not_negative, spec},
    value::{Fields as _, remove},
};

pub(crate) struct Lease;

/// Fields of coordinated leader election, which is off.
const COORDINATED: [&str; 2] = ["strategy", "preferredHolder"];

impl Hooks for Lease {
    fn prepare_create(&self, _context: &Context<'_>, lease: &mut Value) {
        drop_coordinated(lease);
    }

    fn prepare_update(&self, _context: &Context<'_>, _old: &Value, new: &mut Value) {
        drop_coordinated(new);
    }

    fn validate_create(&self, _context: &Context<'_>, lease: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (inner, path) = (&lease["spec"], spec());
        if let Some(seconds) = inner.int("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            let path = path.child("leaseDurationSeconds");
            errors.invalid(&path, seconds, "must be greater than 0");
        }
        not_negative(inner, "leaseTransitions", &path, &mut errors);
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

fn drop_coordinated(lease: &mut Value) {
    if let Some(spec) = lease.get_mut("spec") {
        COORDINATED.iter().for_each(|field| drop(remove(spec, field)));
    }
}
