//! ResourceClaims.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::{claim, declarations, status};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    declared,
    validation::{Errors, spec},
    value::Fields as _,
};

pub(crate) struct ResourceClaim;

impl Hooks for ResourceClaim {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            claim::default(spec);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            claim::drop_disabled(spec);
        }
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty() {
            self.prepare_create(context, new);
        } else {
            status::drop_disabled(new);
            status::drop_deallocated(old, new);
        }
    }

    fn validate_create(&self, context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let requests = object["spec"]["devices"].list("requests");
        let admin = |request: &Value| request["exactly"].on("adminAccess");
        if let Some(at) = requests.iter().position(admin) {
            let path = spec().child("devices").child("requests").index(at).child("adminAccess");
            let namespace = object["metadata"].text("namespace");
            claim::admin_access(context, namespace, &path, &mut errors);
        }
        claim::validate(&object["spec"], &spec(), &mut errors);
        declared::check(declarations::CLAIM, None, object, &Path::empty(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if !context.subresource.is_empty() {
            if status::admin_result(old).is_none()
                && let Some(path) = status::admin_result(new)
            {
                let namespace = new["metadata"].text("namespace");
                claim::admin_access(context, namespace, &path, &mut errors);
            }
            status::validate(old, new, &mut errors);
        }
        declared::check(declarations::CLAIM, Some(old), new, &Path::empty(), &mut errors);
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("resource.k8s.io/resourceclaims")
    }

    fn cells(&self, claim: &Value) -> Vec<Value> {
        let deleted = claim["metadata"].has("deletionTimestamp");
        let status = &claim["status"];
        let mut states = Vec::new();
        if deleted {
            states.push("deleted");
        }
        if status.has("allocation") {
            states.push("allocated");
            if !status.list("reservedFor").is_empty() {
                states.push("reserved");
            }
        } else if !deleted {
            states.push("pending");
        }
        vec![name(claim), states.join(",").into(), age(claim)]
    }
}
