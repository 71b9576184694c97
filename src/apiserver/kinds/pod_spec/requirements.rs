//! Requests and limits of containers and pods, and the claims of devices.

use apimachinery::{
    field::{FieldError, Path},
    names,
    quantity::Quantity,
};
use serde_json::Value;

use super::Spec;
use crate::kinds::{
    resource_names,
    validation::{Errors, Report as _, dns_label, quantity, quantity_text},
    value::Fields as _,
};

/// Requests and limits of a container. `claims` are the pod's resource claims.
pub(crate) fn limits_and_requests(
    resources: &Value,
    claims: &[&str],
    path: &Path,
    errors: &mut Errors,
) {
    check(resources, resource_names::of_container, path, errors);
    claim_names(resources, claims, &path.child("claims"), errors);
}

fn check(resources: &Value, name: fn(&str, &Path, &mut Errors), path: &Path, errors: &mut Errors) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let mut huge = false;
    let mut compute = false;
    let mut one = |list: &Path, resource: &str, value: &Value, errors: &mut Errors| {
        let path = list.key(resource);
        name(resource, &path, errors);
        resource_names::amount(resource, value, &path, errors);
        compute |= matches!(resource, "cpu" | "memory");
        if resource_names::is_huge_page(resource) {
            huge = true;
        }
    };
    for (resource, value) in resources.entries("limits") {
        one(&limits, resource, value, errors);
        huge_pages(resource, value, &limits, errors);
    }
    for (resource, value) in resources.entries("requests") {
        one(&requests, resource, value, errors);
        let limit = resources["limits"].sub(resource).map(quantity);
        within_limit(resource, &quantity(value), limit, path, errors);
        huge_pages(resource, value, &requests, errors);
    }
    if huge && !compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// A request against its limit.
fn within_limit(
    resource: &str,
    request: &Quantity,
    limit: Option<Quantity>,
    path: &Path,
    errors: &mut Errors,
) {
    let flexible = resource_names::may_overcommit(resource);
    let Some(limit) = limit else {
        if !flexible {
            let detail = "Limit must be set for non overcommitable resources";
            errors.required(&path.child("limits"), detail);
        }
        return;
    };
    let wrong = match flexible {
        false if *request != limit => "equal to",
        _ if *request > limit => "less than or equal to",
        _ => return,
    };
    let detail = format!("must be {wrong} {resource} limit of {limit}");
    errors.invalid(&path.child("requests"), request.to_string(), &detail);
}

/// Huge pages are counted whole.
fn huge_pages(resource: &str, value: &Value, list: &Path, errors: &mut Errors) {
    if resource_names::is_huge_page(resource)
        && !resource_names::divides_huge_pages(resource, quantity(value))
    {
        let text = quantity_text(value);
        let detail = format!("{text} is not positive integer multiple of {resource}");
        errors.invalid(&list.key(resource), text.as_str(), &detail);
    }
}

fn claim_names(resources: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for (at, claim) in resources.list("claims").iter().enumerate() {
        let path = path.index(at);
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if seen.iter().any(|key| key == name) {
            errors.duplicate(&path, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                dns_label(request, &path.child("request"), errors);
                key = format!("{name}/{request}");
            }
            let part =
                |known: &String| known.split_once('/').is_some_and(|(claim, _)| claim == name);
            if seen.contains(&key) || (request.is_empty() && seen.iter().any(part)) {
                errors.duplicate(&path, key.as_str());
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut error = FieldError::not_found(&path, name);
            error.message.push_str(": must be one of the names in pod.spec.resourceClaims");
            match known {
                [] => error.message.push_str(" which is empty"),
                some => {
                    let mut names = some.to_vec();
                    names.sort_unstable();
                    names.dedup();
                    error.message.push_str(": ");
                    error.message.push_str(&names.join(", "));
                }
            }
            errors.push(error);
        }
    }
}

pub(super) fn pod_claims(spec: &Value, meta: Option<&Value>, path: &Path, errors: &mut Errors) {
    let claims = spec.list("resourceClaims");
    let mirror = meta.is_some_and(|meta| meta["annotations"].has("kubernetes.io/config.mirror"));
    if mirror {
        for _ in claims {
            errors.forbidden(&Path::empty(), "static pods do not support resource claims");
        }
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for (at, claim) in claims.iter().enumerate() {
        let path = path.index(at);
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            dns_label(name, &path.child("name"), errors);
            seen.push(name);
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|field| claim.has(field)).count() {
            1 => {}
            0 => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&path, claim.clone(), detail);
            }
            _ => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&path, claim.clone(), detail);
            }
        }
        for field in sources {
            if let Some(name) = claim.opt_text(field) {
                errors.messages(&path.child(field), name, names::dns1123_subdomain(name));
            }
        }
    }
}

pub(super) fn resize_policy(spec: &Value, container: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (at, policy) in container.list("resizePolicy").iter().enumerate() {
        let resource = policy.text("resourceName");
        if seen.contains(&resource) {
            errors.duplicate(&path.index(at), resource);
        }
        seen.push(resource);
        match resource {
            "cpu" | "memory" => {}
            "" => errors.required(path, ""),
            other => errors.unsupported(path, other, &["cpu", "memory"]),
        }
        let restart = policy.text("restartPolicy");
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(path, ""),
            other => errors.unsupported(path, other, &["NotRequired", "RestartContainer"]),
        }
        if spec.text("restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.invalid(path, restart, detail);
        }
    }
}

/// Requests and limits of the pod as a whole.
pub(super) fn of_pod(spec: &Spec<'_>, path: &Path, errors: &mut Errors) {
    let Some(resources) = spec.value.sub("resources") else { return };
    let path = path.child("resources");
    if spec.value["os"].text("name") == "windows" {
        return errors.forbidden(&path, "may not be set for a windows pod");
    }
    if resources.has("claims") {
        let detail = "claims may not be set for Resources at pod-level";
        errors.forbidden(&path.child("claims"), detail);
    }
    check(resources, resource_names::of_pod, &path, errors);
    for (resource, total) in totals(spec.value, "requests") {
        let Some(of_pod) = resources["requests"].sub(&resource) else { continue };
        if total > quantity(of_pod) {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {total}");
            let path = path.child("requests").key(&resource);
            errors.invalid(&path, quantity_text(of_pod), &detail);
        }
    }
    for (resource, total) in totals(spec.value, "limits") {
        let Some(of_pod) = resources["limits"].sub(&resource) else { continue };
        if resource_names::is_huge_page(&resource) && total > quantity(of_pod) {
            let detail =
                format!("must be greater than or equal to aggregate container limits of {total}");
            let path = path.child("limits").key(&resource);
            errors.invalid(&path, quantity_text(of_pod), &detail);
        }
    }
    for (at, container) in spec.value.list("containers").iter().enumerate() {
        for (resource, limit) in container["resources"].entries("limits") {
            let Some(of_pod) = resources["limits"].sub(resource) else { continue };
            if quantity(limit) > quantity(of_pod) {
                let text = quantity_text(of_pod);
                let detail = format!("must be less than or equal to pod limits of {text}");
                let path = path.child("containers").index(at).key(resource).child("limits");
                errors.invalid(&path, quantity_text(limit), &detail);
            }
        }
    }
}

/// What the containers of a pod need together of each resource: the sum of those that run for
/// good, or more where an init container needs more at its time. `list` is `requests` or `limits`.
pub(crate) fn totals(spec: &Value, list: &str) -> Vec<(String, Quantity)> {
    let mut running: Vec<(String, Quantity)> = Vec::new();
    let add = |sums: &mut Vec<(String, Quantity)>, container: &Value| {
        for (resource, value) in container["resources"].entries(list) {
            let amount = quantity(value);
            match sums.iter_mut().find(|(known, _)| known == resource) {
                Some((_, sum)) => *sum += amount,
                None => sums.push((resource.clone(), amount)),
            }
        }
    };
    for container in spec.list("containers") {
        add(&mut running, container);
    }
    // An init container runs beside the sidecars that come before it.
    let mut sidecars: Vec<(String, Quantity)> = Vec::new();
    let mut peaks: Vec<(String, Quantity)> = Vec::new();
    for container in spec.list("initContainers") {
        let mut now = sidecars.clone();
        add(&mut now, container);
        if container.text("restartPolicy") == "Always" {
            add(&mut running, container);
            sidecars.clone_from(&now);
        }
        for (resource, amount) in now {
            match peaks.iter_mut().find(|(known, _)| *known == resource) {
                Some((_, peak)) => *peak = (*peak).max(amount),
                None => peaks.push((resource, amount)),
            }
        }
    }
    for (resource, peak) in peaks {
        match running.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, sum)) => *sum = (*sum).max(peak),
            None => running.push((resource, peak)),
        }
    }
    running
}
