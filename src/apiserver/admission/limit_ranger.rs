//! LimitRanger: what a LimitRange of the namespace says a container asks for by default, and
//! between which bounds pods and claims may ask.

use apimachinery::{Status, quantity::Quantity};
use async_trait::async_trait;
use quota::{
    Amounts, amounts,
    pod::{View, limits, requests},
};
use serde_json::{Value, json};

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::{Fields as _, list_mut, object_at, set_default};

pub(super) struct LimitRanger;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

#[async_trait]
impl Plugin for LimitRanger {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let written = match request.info.subresource.as_str() {
            "resize" => request.updates() && request.is("", "pods"),
            "" if request.is("", "pods") => request.creates(),
            "" => {
                request.is("", "persistentvolumeclaims") && (request.creates() || request.updates())
            }
            _ => false,
        };
        written && !request.old()["metadata"].has("deletionTimestamp")
    }

    async fn mutate(&self, call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
        if call.request.is("", "pods") {
            for range in ranges(call) {
                apply_defaults(&range, object);
            }
        }
        Ok(())
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        for range in ranges(call) {
            let mut errors = Vec::new();
            for limit in range["spec"].list("limits") {
                match call.request.is("", "pods") {
                    true => check_pod(limit, object, &mut errors),
                    false => check_claim(limit, object, &mut errors),
                }
            }
            if !errors.is_empty() {
                return Err(call.request.forbidden(object, &aggregate(errors)));
            }
        }
        Ok(())
    }
}

/// Several messages as one, each once, in brackets where there is more than one.
pub(super) fn aggregate(messages: Vec<String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for message in messages {
        if !all.contains(&message) {
            all.push(message);
        }
    }
    match all.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}

fn ranges(call: &Call<'_>) -> Vec<Value> {
    let Some(all) = call.list("", "limitranges") else { return Vec::new() };
    all.range(&call.request.info.namespace).filter_map(|range| super::value(range)).collect()
}

fn apply_defaults(range: &Value, pod: &mut Value) {
    let of_containers = range["spec"].list("limits").iter();
    let of_containers = of_containers.filter(|limit| limit.text("type") == "Container");
    let (mut requests, mut limits) = (json!({}), json!({}));
    for limit in of_containers {
        for (name, amount) in limit.entries("defaultRequest") {
            requests[name] = amount.clone();
        }
        for (name, amount) in limit.entries("default") {
            limits[name] = amount.clone();
        }
    }
    let mut said = Vec::new();
    for (list, kind) in [("containers", "container"), ("initContainers", "init container")] {
        for container in list_mut(&mut pod["spec"], list) {
            let name = container.text("name").to_owned();
            for (field, defaults, what) in
                [("requests", &requests, "request"), ("limits", &limits, "limit")]
            {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    said.push(format!("{} {what} for {kind} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty()
        && let Some(metadata) = object_at(pod, "metadata")
    {
        let annotations = metadata.entry("annotations").or_insert(Value::Null);
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", said.join("; ")).into();
    }
}

/// Sets what is not set; returns the names.
fn fill(container: &mut Value, field: &str, defaults: &Value) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults.as_object().into_iter().flatten() {
        if container["resources"][field].has(name) {
            continue;
        }
        if object_at(container, "resources").is_some()
            && object_at(&mut container["resources"], field).is_some()
        {
            set_default(&mut container["resources"][field], name, amount.clone());
            set.push(name.clone());
        }
    }
    set
}

fn check_claim(limit: &Value, claim: &Value, errors: &mut Vec<String>) {
    let kind = limit.text("type");
    if kind != "PersistentVolumeClaim" {
        return;
    }
    let asked = amounts::read(&claim["spec"]["resources"]["requests"]);
    for (name, bound) in amounts::read(&limit["min"]) {
        errors.extend(below(kind, &name, bound, &asked, &Amounts::new()));
    }
    for (name, bound) in amounts::read(&limit["max"]) {
        errors.extend(match asked.get(&name) {
            None => Some(format!(
                "maximum {name} usage per {kind} is {bound}.  No request is specified"
            )),
            Some(asked) if *asked > bound => {
                Some(format!("maximum {name} usage per {kind} is {bound}, but request is {asked}"))
            }
            Some(_) => None,
        });
    }
}

fn check_pod(limit: &Value, pod: &Value, errors: &mut Vec<String>) {
    match limit.text("type") {
        "Container" => {
            let containers = pod["spec"].list("containers").iter();
            for container in containers.chain(pod["spec"].list("initContainers")) {
                let resources = &container["resources"];
                let asked = amounts::read(&resources["requests"]);
                check(limit, &asked, &amounts::read(&resources["limits"]), errors);
            }
        }
        "Pod" => check(limit, &requests(pod, View::Spec), &limits(pod, View::Spec), errors),
        _ => {}
    }
}

fn check(limit: &Value, asked: &Amounts, capped: &Amounts, errors: &mut Vec<String>) {
    let kind = limit.text("type");
    for (name, bound) in amounts::read(&limit["min"]) {
        errors.extend(below(kind, &name, bound, asked, capped));
    }
    for (name, bound) in amounts::read(&limit["max"]) {
        errors.extend(above(kind, &name, bound, asked, capped));
    }
    for (name, bound) in amounts::read(&limit["maxLimitRequestRatio"]) {
        errors.extend(too_wide(kind, &name, bound, asked, capped));
    }
}

fn below(
    kind: &str,
    name: &str,
    bound: Quantity,
    asked: &Amounts,
    capped: &Amounts,
) -> Option<String> {
    let what = format!("minimum {name} usage per {kind} is {bound}");
    match (asked.get(name), capped.get(name)) {
        (None, _) => Some(format!("{what}.  No request is specified")),
        (Some(asked), _) if *asked < bound => Some(format!("{what}, but request is {asked}")),
        (_, Some(cap)) if *cap < bound => Some(format!("{what}, but limit is {cap}")),
        _ => None,
    }
}

fn above(
    kind: &str,
    name: &str,
    bound: Quantity,
    asked: &Amounts,
    capped: &Amounts,
) -> Option<String> {
    let what = format!("maximum {name} usage per {kind} is {bound}");
    match (capped.get(name), asked.get(name)) {
        (None, _) => Some(format!("{what}.  No limit is specified")),
        (Some(cap), _) if *cap > bound => Some(format!("{what}, but limit is {cap}")),
        (_, Some(asked)) if *asked > bound => Some(format!("{what}, but request is {asked}")),
        _ => None,
    }
}

fn too_wide(
    kind: &str,
    name: &str,
    bound: Quantity,
    asked: &Amounts,
    capped: &Amounts,
) -> Option<String> {
    let what = format!("{name} max limit to request ratio per {kind} is {bound}, but");
    let amount = |list: &Amounts| list.get(name).copied().filter(|amount| !amount.is_zero());
    let Some(asked) = amount(asked) else {
        return Some(format!("{what} no request is specified or request is 0"));
    };
    let Some(cap) = amount(capped) else {
        return Some(format!("{what} no limit is specified or limit is 0"));
    };
    let ratio = cap.as_f64() / asked.as_f64();
    (ratio > bound.as_f64()).then(|| format!("{what} provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_what_containers_leave_open() {
        let range = json!({"spec": {"limits": [{"type": "Container",
            "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]}});
        let mut pod = json!({"spec": {
            "containers": [{"name": "a", "resources": {"limits": {"memory": "2Gi"}}}],
            "initContainers": [{"name": "i"}],
        }});
        apply_defaults(&range, &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu limit for container a; cpu \
             request for init container i; cpu, memory limit for init container i"
        );
    }

    #[test]
    fn bounds_are_reported_as_upstream_does() {
        let limit = json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"},
            "maxLimitRequestRatio": {"cpu": "2"}});
        let mut errors = Vec::new();
        let amount = |cpu: &str| amounts::read(&json!({ "cpu": cpu }));
        check(&limit, &amount("50m"), &amount("2"), &mut errors);
        assert_eq!(
            aggregate(errors),
            "[minimum cpu usage per Container is 100m, but request is 50m, maximum cpu usage per \
             Container is 1, but limit is 2, cpu max limit to request ratio per Container is 2, but \
             provided ratio is 40.000000]"
        );
    }
}
