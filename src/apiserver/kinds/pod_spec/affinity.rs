//! Affinity to nodes and to other pods.

use apimachinery::{field::Path, names};
use serde_json::Value;

use super::scheduling::label_keys;
use crate::kinds::{
    validation::{Errors, Report as _, label_name, label_selector},
    value::Fields as _,
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(affinity) = spec.sub("affinity") else { return };
    if let Some(node) = affinity.sub("nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(selector) = node.sub(REQUIRED) {
            node_selector(selector, &path.child(REQUIRED), errors);
        }
        for (at, term) in node.list(PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED).index(at);
            weight(term, &path, errors);
            // Invalid label values are let through here: a preference may match nothing.
            node_selector_term(&term["preference"], &path.child("preference"), false, errors);
        }
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = affinity.sub(field) else { continue };
        let path = path.child(field);
        for (at, term) in terms.list(REQUIRED).iter().enumerate() {
            pod_term(term, &path.child(REQUIRED).index(at), errors);
        }
        for (at, term) in terms.list(PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED).index(at);
            weight(term, &path, errors);
            pod_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &Path, errors: &mut Errors) {
    let weight = term.int("weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A node selector, which must have a term.
pub(crate) fn node_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    let terms = selector.list("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (at, term) in terms.iter().enumerate() {
        node_selector_term(term, &path.index(at), true, errors);
    }
}

/// A term of a node selector; `strict` checks the form of label values.
pub(crate) fn node_selector_term(term: &Value, path: &Path, strict: bool, errors: &mut Errors) {
    for (at, requirement) in term.list("matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(at);
        let count = requirement.list("values").len();
        let values = path.child("values");
        match requirement.text("operator") {
            "In" | "NotIn" if count == 0 => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&values, detail);
            }
            "Gt" | "Lt" if count != 1 => {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.required(&values, detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                errors.invalid(&path.child("operator"), other, "not a valid selector operator")
            }
        }
        label_name(requirement.text("key"), &path.child("key"), errors);
        for (at, value) in requirement.texts("values").enumerate().filter(|_| strict) {
            errors.messages(&values.index(at), value, names::label_value(value));
        }
    }
    for (at, requirement) in term.list("matchFields").iter().enumerate() {
        node_field(requirement, &path.child("matchFields").index(at), errors);
    }
}

fn node_field(requirement: &Value, path: &Path, errors: &mut Errors) {
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if requirement.list("values").len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&path.child("values"), detail);
            }
        }
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    match requirement.text("key") {
        "metadata.name" => {
            for (at, value) in requirement.texts("values").enumerate() {
                let messages = names::dns1123_subdomain(value);
                errors.messages(&path.child("values").index(at), value, messages);
            }
        }
        other => errors.invalid(&path.child("key"), other, "not a valid field selector key"),
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Errors) {
    label_selector(term, "labelSelector", path, errors);
    label_selector(term, "namespaceSelector", path, errors);
    for name in term.texts("namespaces") {
        errors.messages(&path.child("namespace"), name, names::dns1123_label(name));
    }
    label_keys(term, path, errors);
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    label_name(key, &path.child("topologyKey"), errors);
}
