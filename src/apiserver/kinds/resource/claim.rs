//! What is claimed: requests for devices, how those of several belong together, configurations.
//!
//! What is declared of it is in `declarations.rs`; here is the rest.

use apimachinery::field::Path;
use serde_json::Value;

use super::{parts, selector::selectors};
use crate::kinds::{
    Context,
    validation::{Errors, Report as _, dns_label, dns_subdomain},
    value::{Fields as _, list_mut, remove},
};

/// Most requests, constraints and configurations of a claim; of more, the number alone is told.
const MOST: usize = 32;
const MOST_ALTERNATIVES: usize = 8;

/// The spec of a claim.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    let requests = devices.list("requests");
    let few = |field: &str| Some(devices.list(field)).filter(|list| list.len() <= MOST);
    for (at, request) in few("requests").unwrap_or_default().iter().enumerate() {
        device_request(request, &path.child("requests").index(at), errors);
    }
    for (at, constraint) in few("constraints").unwrap_or_default().iter().enumerate() {
        let path = path.child("constraints").index(at);
        references(constraint, requests, &path, errors);
        if !constraint.has("matchAttribute") && !constraint.has("distinctAttribute") {
            let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, \
                          but multiple fields are set";
            errors.required(&path, detail);
        }
    }
    for (at, config) in few("config").unwrap_or_default().iter().enumerate() {
        let path = path.child("config").index(at);
        references(config, requests, &path, errors);
        parts::configuration(config, false, &path, errors);
    }
}

fn device_request(request: &Value, path: &Path, errors: &mut Errors) {
    dns_label(request.text("name"), &path.child("name"), errors);
    let alternatives = request.list("firstAvailable");
    let one = "exactly one of `exactly` or `firstAvailable` is required";
    match (request.sub("exactly"), alternatives.is_empty()) {
        (None, true) => errors.required(path, one),
        (Some(_), false) => {
            errors.invalid_nil(path, &format!("{one}, but multiple fields are set"));
        }
        (None, false) if alternatives.len() <= MOST_ALTERNATIVES => {
            for (at, alternative) in alternatives.iter().enumerate() {
                let path = path.child("firstAvailable").index(at);
                dns_label(alternative.text("name"), &path.child("name"), errors);
                wanted(alternative, &path, errors);
            }
        }
        (None, false) => {}
        (Some(exactly), true) => {
            let path = path.child("exactly");
            let class = path.child("deviceClassName");
            match exactly.text("deviceClassName") {
                "" => errors.required(&class, ""),
                name => dns_subdomain(name, &class, errors),
            }
            wanted(exactly, &path, errors);
        }
    }
}

/// What is wanted of the devices of a request or of one of its alternatives.
fn wanted(request: &Value, path: &Path, errors: &mut Errors) {
    selectors(request, false, path, errors);
    let count = request.int("count").unwrap_or_default();
    match request.text("allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&path.child("count"), count, detail);
        }
        "ExactCount" if count <= 0 => {
            errors.invalid(&path.child("count"), count, "must be greater than zero");
        }
        _ => {}
    }
    parts::tolerations(request, path, errors);
}

/// The requests that a constraint, configuration or result names.
pub(super) fn references(object: &Value, requests: &[Value], path: &Path, errors: &mut Errors) {
    let names: Vec<&str> = object.texts("requests").collect();
    if names.len() <= MOST {
        for (at, name) in names.iter().enumerate() {
            reference(name, requests, &path.child("requests").index(at), errors);
        }
    }
}

/// The name of a request, or of one of its alternatives.
pub(super) fn reference(name: &str, requests: &[Value], path: &Path, errors: &mut Errors) {
    let unknown = "must be the name of a request in the claim or the name of a request and a \
                   subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        return errors.invalid(path, name, unknown);
    }
    for part in &parts {
        dns_label(part, path, errors);
    }
    let known = requests.iter().rev().find(|request| request.text("name") == parts[0]);
    let known = known.is_some_and(|request| match parts.get(1) {
        None => true,
        Some(part) => request.list("firstAvailable").iter().any(|it| it.text("name") == *part),
    });
    if !known {
        errors.invalid(path, name, unknown);
    }
}

/// The defaults of the requests of a claim.
pub(super) fn default(spec: &mut Value) {
    for_each_request(spec, default_request);
}

/// Does something with what is wanted by each request and each alternative.
fn for_each_request(spec: &mut Value, mut what: impl FnMut(&mut Value)) {
    let Some(devices) = spec.get_mut("devices") else { return };
    for request in list_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            what(exactly);
        }
        list_mut(request, "firstAvailable").for_each(&mut what);
    }
}

fn default_request(request: &mut Value) {
    if !request.is_object() {
        return;
    }
    if request.text("allocationMode").is_empty() {
        request["allocationMode"] = "ExactCount".into();
    }
    if request.text("allocationMode") == "ExactCount" && request.int("count").unwrap_or(0) == 0 {
        request["count"] = 1.into();
    }
}

/// Drops what belongs to features that are off.
pub(super) fn drop_disabled(spec: &mut Value) {
    for_each_request(spec, |request| drop(remove(request, "derivedAttributes")));
}

/// Where administrator access is asked for, and by right of what.
pub(super) fn admin_access(
    context: &Context<'_>,
    namespace: &str,
    path: &Path,
    errors: &mut Errors,
) {
    const LABEL: &str = "resource.kubernetes.io/admin-access";
    let found = context.server.get("", "namespaces", "", namespace);
    if found.as_ref().and_then(|found| found.label(LABEL)) != Some("true") {
        let detail = format!(
            "admin access to devices requires the `{LABEL}: true` label on the containing namespace"
        );
        errors.forbidden(path, &detail);
    }
}
