//! Pods.

mod columns;
mod prepare;
mod qos;
mod resize;
mod status;
mod update;

use apimachinery::{field::FieldError, names};
use serde_json::{Value, json};

pub(crate) use self::qos::class as qos_class;
use crate::kinds::{
    Column, Context, Hooks,
    pod_spec::{self, Options},
    validation::{Errors, Report as _, spec},
    value::{Fields as _, object_at, remove},
};

pub(crate) struct Pod;

impl Hooks for Pod {
    fn default(&self, pod: &mut Value) {
        let Some(spec) = pod.get_mut("spec") else { return };
        pod_spec::default_spec(spec);
        pod_spec::default_requests(spec);
        pod_spec::default_host_ports(spec);
        if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
            spec["terminationGracePeriodSeconds"] = 1.into();
        }
        crate::kinds::value::set_default(spec, "enableServiceLinks", true);
        status::default_ips(pod);
    }

    fn prepare_create(&self, _context: &Context<'_>, pod: &mut Value) {
        pod["status"] = json!({"phase": "Pending"});
        if let Some(spec) = pod.get_mut("spec") {
            pod_spec::drop_disabled(spec, None);
        }
        prepare::create(pod);
        let class = qos_class(&pod["spec"]);
        pod["status"]["qosClass"] = class.into();
    }

    fn prepare_update(&self, context: &Context<'_>, old: &Value, new: &mut Value) {
        match context.subresource {
            "status" => status::prepare(old, new),
            "ephemeralcontainers" => update::keep_all_but_ephemeral_containers(old, new),
            "resize" => resize::keep_all_but_resources(old, new),
            _ => {
                // A client that does not know pod-level resources drops them.
                if old["spec"].has("resources")
                    && !new["spec"].has("resources")
                    && let Some(spec) = object_at(new, "spec")
                {
                    spec.insert("resources".to_owned(), old["spec"]["resources"].clone());
                }
            }
        }
        if let Some(spec) = new.get_mut("spec") {
            pod_spec::drop_disabled(spec, Some(&old["spec"]));
        }
    }

    fn validate_create(&self, _context: &Context<'_>, pod: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        update::validate_pod(pod, &mut errors);
        let place = spec();
        if !pod["spec"].list("ephemeralContainers").is_empty() {
            errors.forbidden(&place.child("ephemeralContainers"), "cannot be set on create");
        }
        let gated = !pod["spec"].list("schedulingGates").is_empty();
        if gated && !pod["spec"].text("nodeName").is_empty() {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.forbidden(&place.child("nodeName"), detail);
        }
        pod_spec::annotations_match(&pod["metadata"], &pod["spec"], &place, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        match context.subresource {
            "status" => status::validate(old, new, &mut errors),
            "ephemeralcontainers" => update::ephemeral_containers(old, new, &mut errors),
            "resize" => resize::validate(old, new, &mut errors),
            _ => update::validate(old, new, &mut errors),
        }
        errors
    }

    fn warnings(&self, _old: Option<&Value>, pod: &Value) -> Vec<String> {
        let messages = names::dns1123_label(pod["metadata"].text("name"));
        let mut warnings = Vec::new();
        if !messages.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                messages.join(" ")
            ));
        }
        warnings
    }

    fn grace_period(&self, pod: &Value, asked: Option<i64>) -> Option<i64> {
        let spec = &pod["spec"];
        let period = asked.or(spec.int("terminationGracePeriodSeconds")).unwrap_or(0);
        let nowhere = spec.text("nodeName").is_empty();
        let over = matches!(pod["status"].text("phase"), "Failed" | "Succeeded");
        Some(match period {
            _ if nowhere || over => 0,
            ..0 => 1,
            period => period,
        })
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn columns(&self) -> &'static [Column] {
        crate::kinds::columns::of("/pods")
    }

    fn cell_paths(&self) -> &'static [&'static str] {
        columns::PATHS
    }

    fn cells(&self, pod: &Value) -> Vec<Value> {
        columns::cells(pod)
    }
}

/// Validates what every stored Pod must hold to.
fn options() -> Options {
    Options { is_pod: true }
}

/// Removes empty maps that only stand in the way of a comparison.
fn without(object: &Value, fields: &[&str]) -> Value {
    let mut copy = object.clone();
    for field in fields {
        remove(&mut copy, field);
    }
    copy
}
