//! ReplicaSets.

use serde_json::Value;

use super::workload::{self, Counts, Workload};
use crate::kinds::{
    Column,
    columns::{self, age, containers, name, selector},
    validation::{Errors, not_negative, spec},
    value::Fields as _,
};

pub(crate) struct ReplicaSet;

impl Workload for ReplicaSet {
    const STATUS: Counts = Counts {
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

    fn validate(&self, set: &Value, errors: &mut Errors) {
        let path = spec();
        not_negative(&set["spec"], "replicas", &path, errors);
        not_negative(&set["spec"], "minReadySeconds", &path, errors);
        workload::selector(set, "deployment", errors);
        workload::template(set, "ReplicaSet", errors);
    }

    fn validate_change(&self, old: &Value, new: &Value, errors: &mut Errors) {
        self.validate(new, errors);
        workload::same_selector(old, new, errors);
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
