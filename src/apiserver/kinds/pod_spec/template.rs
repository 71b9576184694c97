//! Pod templates: the metadata and spec of pods to come.

use apimachinery::{field::Path, names};
use serde_json::Value;

use super::{Options, annotations_match, validate};
use crate::kinds::{
    validation::{Errors, Report as _, labels},
    value::Fields as _,
};

/// Validates a pod template.
pub(crate) fn template(template: &Value, path: &Path, errors: &mut Errors) {
    let meta = &template["metadata"];
    labels(meta, "labels", path, errors);
    annotations(meta, path, errors);
    pod_annotations(meta, &template["spec"], &path.child("annotations"), errors);
    let place = path.child("spec");
    validate(&template["spec"], None, &place, Options { is_pod: false }, errors);
    annotations_match(meta, &template["spec"], &place, errors);
    if !template["spec"].list("ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&place.child("ephemeralContainers"), detail);
    }
}

/// Keys and total size of annotations.
pub(crate) fn annotations(meta: &Value, path: &Path, errors: &mut Errors) {
    const LIMIT: usize = 256 << 10;
    let path = path.child("annotations");
    let mut size = 0;
    for (key, value) in meta.strings("annotations") {
        size += key.len() + value.len();
        let lower = key.to_lowercase();
        let messages = names::qualified_name(&lower);
        errors.messages(&path, key, messages);
    }
    if size > LIMIT {
        errors.push(apimachinery::field::FieldError::too_long(&path, LIMIT));
    }
}

/// The annotations that mean something to Kubernetes on a pod.
pub(crate) fn pod_annotations(meta: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let annotations = &meta["annotations"];
    if let Some(mirror) = annotations.opt_text("kubernetes.io/config.mirror")
        && spec.text("nodeName").is_empty()
    {
        let path = path.key("kubernetes.io/config.mirror");
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path, mirror, detail);
    }
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(cost) = annotations.opt_text(COST) {
        let odd = cost.starts_with('+') || (cost.starts_with('0') && cost.len() > 1);
        if odd || cost.parse::<i32>().is_err() {
            errors.invalid(&path.key(COST), cost, "must be a 32bit integer");
        }
    }
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let seccomp = key == "seccomp.security.alpha.kubernetes.io/pod"
            || key.starts_with("container.seccomp.security.alpha.kubernetes.io/");
        if seccomp {
            let path = path.child(key);
            match value.strip_prefix("localhost/") {
                Some(file) => crate::kinds::validation::descending_path(file, &path, errors),
                None if matches!(value, "runtime/default" | "docker/default" | "unconfined") => {}
                None => errors.invalid(&path, value, "must be a valid seccomp profile"),
            }
        }
    }
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if let Some(name) = key.strip_prefix("container.apparmor.security.beta.kubernetes.io/") {
            let path = path.key(key);
            if !super::all_containers(spec).any(|(_, _, container)| container.text("name") == name)
            {
                errors.invalid(&path, name, "container not found");
            }
            let known = matches!(value, "" | "runtime/default" | "unconfined");
            if !known && !value.starts_with("localhost/") {
                let detail = format!("invalid AppArmor profile name: {value:?}");
                errors.invalid(&path, value, &detail);
            }
        }
    }
}

/// The metadata of a claim template: labels and annotations alone.
pub(super) fn metadata(meta: &Value, path: &Path, errors: &mut Errors) {
    annotations(meta, path, errors);
    labels(meta, "labels", path, errors);
    for (field, value) in meta.as_object().into_iter().flatten() {
        let allowed = matches!(field.as_str(), "labels" | "annotations" | "creationTimestamp");
        if !allowed && !value.is_null() {
            errors.forbidden(&path.child(field), "cannot be set");
        }
    }
}
