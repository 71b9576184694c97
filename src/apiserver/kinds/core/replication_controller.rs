//! ReplicationControllers: what ReplicaSets have taken the place of.

use apimachinery::{field::Path, names};
use serde_json::Value;

use crate::kinds::{
    Column,
    apps::{
        replica_set::ReplicaSet,
        workload::{self, Counts, Workload},
    },
    columns::{self, age, containers, labels, name},
    pod_spec,
    validation::{Errors, Report as _, not_negative, spec},
    value::{Fields as _, object_at},
};

pub(crate) struct ReplicationController;

impl Workload for ReplicationController {
    const STATUS: Counts = ReplicaSet::STATUS;

    fn default(&self, controller: &mut Value) {
        // Without a selector or labels of its own it has those of its pods.
        let labels = &controller["spec"]["template"]["metadata"]["labels"];
        if labels.as_object().is_none_or(serde_json::Map::is_empty) {
            return;
        }
        let labels = labels.clone();
        let open = |map: &Value| map.as_object().is_none_or(serde_json::Map::is_empty);
        if open(&controller["spec"]["selector"]) {
            controller["spec"]["selector"] = labels.clone();
        }
        if open(&controller["metadata"]["labels"])
            && let Some(metadata) = object_at(controller, "metadata")
        {
            metadata.insert("labels".to_owned(), labels);
        }
    }

    fn validate(&self, controller: &Value, errors: &mut Errors) {
        validate(&controller["spec"], &spec(), errors);
    }

    fn warnings(&self, old: Option<&Value>, controller: &Value) -> Vec<String> {
        workload::pod_name_warning(old, controller)
    }

    /// Declaratively: the length is counted in bytes, and says so.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        let messages = names::name_is_dns_subdomain(name, prefix);
        let bytes = |message: String| match message.strip_suffix(" characters") {
            Some(length) => format!("{length} bytes"),
            None => message,
        };
        messages.into_iter().map(bytes).collect()
    }

    fn fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/replicationcontrollers")
    }

    fn cells(&self, controller: &Value) -> Vec<Value> {
        let (spec, status) = (&controller["spec"], &controller["status"]);
        let [names, images] = containers(&spec["template"]["spec"]);
        vec![
            name(controller),
            spec.int("replicas").unwrap_or_default().into(),
            status.int("replicas").unwrap_or_default().into(),
            status.int("readyReplicas").unwrap_or_default().into(),
            age(controller),
            names,
            images,
            labels(spec, "selector"),
        ]
    }
}

fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    not_negative(spec, "replicas", path, errors);
    not_negative(spec, "minReadySeconds", path, errors);
    if spec.entries("selector").next().is_none() {
        errors.required(&path.child("selector"), "");
    }
    let template = path.child("template");
    if !spec.has("template") {
        return errors.required(&template, "");
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if spec.entries("selector").any(|(key, value)| labels.get(key) != Some(value)) {
        workload::mismatch(spec, &template, errors);
    }
    pod_spec::template(&spec["template"], &template, errors);
    workload::always(&spec["template"], "ReplicationController", &template, errors);
}
