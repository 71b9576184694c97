//! What the server fills in before a Pod is created.

use serde_json::{Value, json};

use crate::kinds::{
    pod_spec::{default_pod_level, security_of_annotation},
    value::{Fields as _, list_mut, object_at},
};

pub(super) fn create(pod: &mut Value) {
    if !pod["spec"].list("schedulingGates").is_empty() {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": apimachinery::time::now(),
        }]);
    }
    let labels = pod["metadata"]["labels"].clone();
    let annotations = pod["metadata"]["annotations"].clone();
    let Some(spec) = pod.get_mut("spec") else { return };
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.pointer_mut(&format!("/affinity/{affinity}")) else { continue };
        for term in list_mut(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = term.get_mut("podAffinityTerm") {
                merge_label_keys(term, &labels);
            }
        }
        for term in list_mut(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_label_keys(term, &labels);
        }
    }
    for constraint in list_mut(spec, "topologySpreadConstraints") {
        merge_label_keys(constraint, &labels);
    }
    if annotations.is_object() {
        security_of_annotation(spec, &annotations);
    }
    default_pod_level(spec);
}

/// `matchLabelKeys` name labels of the pod itself: their values join the selector.
fn merge_label_keys(term: &mut Value, labels: &Value) {
    if !term.has("labelSelector") {
        return;
    }
    let mut added = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.texts(field) {
            if let Some(value) = labels.opt_text(key) {
                added.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if added.is_empty() {
        return;
    }
    let Some(selector) = object_at(term, "labelSelector") else { return };
    let expressions = selector.entry("matchExpressions").or_insert_with(|| json!([]));
    if !expressions.is_array() {
        *expressions = json!([]);
    }
    if let Some(list) = expressions.as_array_mut() {
        list.extend(added);
    }
}
