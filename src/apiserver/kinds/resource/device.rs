//! A device of a slice.
//!
//! What is declared of it is in `declarations.rs`; here is the rest.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::{attributes, capacity, parts};
use crate::kinds::{
    pod_spec::node_selector,
    validation::{Errors, Report as _, dns_label, dns_subdomain},
    value::{Fields as _, same},
};

const MOST_TAINTS: usize = 16;
const MOST_CONSUMPTIONS: usize = 2;
/// Most counters of a set.
const MOST_COUNTERS: usize = 32;

/// A device; `old` is the one of the same name that it replaces, `places` whether the devices of
/// the slice say themselves where they are.
pub(super) fn validate(
    device: &Value,
    old: Option<&Value>,
    places: bool,
    path: &Path,
    errors: &mut Errors,
) {
    dns_label(device.text("name"), &path.child("name"), errors);
    attributes::validate(device, path, errors);
    let changed = |field: &str| old.is_none_or(|old| !same(&old[field], &device[field]));
    if changed("capacity") {
        capacity::validate(device, path, errors);
    }
    if changed("taints") {
        taints(device.list("taints"), &path.child("taints"), errors);
    }
    let consumed = device.list("consumesCounters");
    if consumed.len() <= MOST_CONSUMPTIONS {
        for (at, consumption) in consumed.iter().enumerate() {
            let path = path.child("consumesCounters").index(at);
            counters(consumption, &path.child("counters"), errors);
        }
    }
    if places {
        place(device, path, errors);
    } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.has(field)) {
        let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if \
                      `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.invalid_nil(path, detail);
    }
    parts::binding_conditions(device, path, errors);
}

fn taints(taints: &[Value], path: &Path, errors: &mut Errors) {
    if taints.len() > MOST_TAINTS {
        return errors.push(FieldError::too_many(path, taints.len(), MOST_TAINTS));
    }
    for (at, taint) in taints.iter().enumerate() {
        parts::taint(taint, &path.index(at), errors);
    }
}

/// The counters of a set, or those of them that a device consumes. Their names are declared.
pub(super) fn counters(object: &Value, path: &Path, errors: &mut Errors) {
    let count = object.entries("counters").count();
    if count > MOST_COUNTERS {
        errors.push(FieldError::too_many(path, count, MOST_COUNTERS));
    }
}

/// Where a device is.
fn place(device: &Value, path: &Path, errors: &mut Errors) {
    let mut set = Vec::new();
    match device.opt_text("nodeName") {
        None => {}
        Some("") => errors.invalid(&path.child("nodeName"), "", "must not be empty"),
        Some(name) => {
            set.push("`nodeName`");
            dns_subdomain(name, &path.child("nodeName"), errors);
        }
    }
    if let Some(selector) = device.sub("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
    true_or_nothing(device, "allNodes", "`allNodes`", &mut set, path, errors);
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
               `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match set.len() {
        0 => errors.required(path, one),
        1 => {}
        _ => errors.invalid(path, format!("{{{}}}", set.join(", ")), one),
    }
}

/// A switch that is on or not there.
pub(super) fn true_or_nothing(
    object: &Value,
    field: &str,
    shown: &'static str,
    set: &mut Vec<&'static str>,
    path: &Path,
    errors: &mut Errors,
) {
    match object.flag(field) {
        None => {}
        Some(true) => set.push(shown),
        Some(false) => {
            let detail = "must be either unset or set to true";
            errors.invalid(&path.child(field), false, detail);
        }
    }
}

/// The name of an attribute or capacity as a part of a path.
pub(super) fn key(path: &Path, name: &str) -> Path {
    const MOST: usize = 63 + 1 + 32;
    path.key(&parts::shortened(name, MOST))
}
