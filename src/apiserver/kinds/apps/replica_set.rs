//! ReplicaSets.

use apimachinery::field::FieldError;
use serde_json::Value;

use super::workload::{self, Counts};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, containers, name, selector},
    pod_spec,
    validation::{Errors, not_negative, spec},
    value::Fields as _,
};

pub(crate) struct ReplicaSet;

pub(crate) const STATUS: Counts = Counts {
    all: &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ],
    parts: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    ready: "readyReplicas",
};

impl Hooks for ReplicaSet {
    fn default(&self, set: &mut Value) {
        if let Some(template) = set.pointer_mut("/spec/template") {
            pod_spec::default_template(template);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, set: &mut Value) {
        pod_spec::drop_from_template(set, None);
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        if context.subresource.is_empty() {
            pod_spec::drop_from_template(new, Some(old));
        }
    }

    fn validate_create(&self, _context: &Context<'_>, set: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(set, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            STATUS.check(old, new, &mut errors);
        } else {
            validate(new, &mut errors);
            workload::same_selector(old, new, &mut errors);
        }
        errors
    }

    fn fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("apps/replicasets")
    }

    fn cells(&self, set: &Value) -> Vec<Value> {
        let (spec, status) = (&set["spec"], &set["status"]);
        let [names, images] = containers(&spec["template"]["spec"]);
        vec![
            name(set),
            spec.int("replicas").unwrap_or_default().into(),
            status.int("replicas").unwrap_or_default().into(),
            status.int("readyReplicas").unwrap_or_default().into(),
            age(set),
            names,
            images,
            selector(&spec["selector"]),
        ]
    }
}

fn validate(set: &Value, errors: &mut Errors) {
    let path = spec();
    not_negative(&set["spec"], "replicas", &path, errors);
    not_negative(&set["spec"], "minReadySeconds", &path, errors);
    workload::selector(set, "deployment", errors);
    workload::template(set, "ReplicaSet", errors);
}
