//! A Pod's status: what kubelets report and must not contradict.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use super::update::annotation_updates;
use crate::kinds::{
    addresses,
    validation::{Errors, IMMUTABLE, Report as _, dns_subdomain, label_name},
    value::{Fields as _, list_mut, object_at, remove},
};

/// `podIP` and the first of `podIPs` are the same.
pub(super) fn default_ips(pod: &mut Value) {
    let Some(status) = pod.get("status") else { return };
    let single = status.text("podIP").to_owned();
    let first = status.list("podIPs").first().map(|ip| ip.text("ip").to_owned());
    let Some(status) = pod.get_mut("status").and_then(Value::as_object_mut) else { return };
    match first {
        Some(first) if single.is_empty() => drop(status.insert("podIP".to_owned(), first.into())),
        first if !single.is_empty() && first.as_ref() != Some(&single) => {
            status.insert("podIPs".to_owned(), json!([{ "ip": single }]));
        }
        _ => {}
    }
}

/// Keeps of the old status what a kubelet may not know of.
pub(super) fn prepare(old: &Value, new: &mut Value) {
    if let Some(metadata) = object_at(new, "metadata") {
        metadata.remove("deletionTimestamp");
        // The registry restores it; old kubelets corrupted owner references, too.
        for field in ["deletionTimestamp", "ownerReferences"] {
            match old["metadata"].sub(field) {
                Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
                None => drop(metadata.remove(field)),
            }
        }
    }
    let was = &old["status"];
    let Some(status) = object_at(new, "status") else { return };
    for field in [
        "qosClass",
        "resourceClaimStatuses",
        "extendedResourceClaimStatus",
        "nodeAllocatableResourceClaimStatuses",
        "observedGeneration",
    ] {
        let missing = status.get(field).is_none_or(|v| v.is_null() || *v == "" || *v == 0);
        if let (true, Some(value)) = (missing, was.sub(field)) {
            status.insert(field.to_owned(), value.clone());
        }
    }
    let mut known: Vec<(&str, Option<i64>)> = was
        .list("conditions")
        .iter()
        .map(|condition| (condition.text("type"), condition.int("observedGeneration")))
        .collect();
    let Some(status) = new.get_mut("status") else { return };
    for condition in list_mut(status, "conditions") {
        let Some(at) = known.iter().position(|(kind, _)| *kind == condition.text("type")) else {
            continue;
        };
        let (_, generation) = known.remove(at);
        if let Some(generation) =
            generation.filter(|_| condition.int("observedGeneration").unwrap_or(0) == 0)
        {
            condition["observedGeneration"] = generation.into();
        }
    }
    if new["status"]["observedGeneration"].is_null()
        && let Some(status) = new.get_mut("status")
    {
        remove(status, "observedGeneration");
    }
}

pub(super) fn validate(old: &Value, new: &Value, errors: &mut Errors) {
    annotation_updates(old, new, errors);
    let path = Path::root("status");
    let (was, is) = (&old["status"], &new["status"]);
    for (at, condition) in is.list("conditions").iter().enumerate() {
        let path = path.child("conditions").index(at);
        if let Some(generation) = condition.int("observedGeneration").filter(|g| *g < 0) {
            let detail = "must be a non-negative integer";
            errors.invalid(&path.child("observedGeneration"), generation, detail);
        }
        let kind = condition.text("type");
        if !SYSTEM_CONDITIONS.contains(&kind) {
            label_name(kind, &path.child("Type"), errors);
        }
    }
    nominated(old, new, &path, errors);
    if let Some(generation) = is.int("observedGeneration").filter(|g| *g < 0) {
        let detail = "must be a non-negative integer";
        errors.invalid(&path.child("observedGeneration"), generation, detail);
    }
    if was.text("qosClass") != is.text("qosClass") {
        errors.invalid(&path.child("qosClass"), is.text("qosClass"), IMMUTABLE);
    }
    if !may_all_restart(&old["spec"]) {
        for (list, containers) in
            [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")]
        {
            transitions(old, new, list, Some(containers), errors);
        }
    }
    transitions(old, new, "ephemeralContainerStatuses", None, errors);
    claims(new, &path.child("resourceClaimStatuses"), errors);
    for (single, list) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        ips(was, is, single, list, &path, errors);
    }
}

const SYSTEM_CONDITIONS: [&str; 4] = ["PodScheduled", "Ready", "Initialized", "ContainersReady"];

fn nominated(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("nominatedNodeName");
    let name = new["status"].text("nominatedNodeName");
    if name.is_empty() || name == old["status"].text("nominatedNodeName") {
        return;
    }
    errors.messages(&path, name, names::dns1123_subdomain(name));
    if !old["spec"].text("nodeName").is_empty() {
        errors.forbidden(&path, "may not be set on pods that are already bound to a node");
    }
}

/// Whether a container may end with the order to start all of them again.
fn may_all_restart(spec: &Value) -> bool {
    let rules = |container: &Value| {
        container
            .list("restartPolicyRules")
            .iter()
            .any(|r| r.text("action") == "RestartAllContainers")
    };
    spec.list("containers").iter().chain(spec.list("initContainers")).any(rules)
}

/// A container that has ended stays so, unless its policy starts it again.
fn transitions(
    old: &Value,
    new: &Value,
    list: &str,
    containers: Option<&str>,
    errors: &mut Errors,
) {
    let spec = &old["spec"];
    for (at, before) in old["status"].list(list).iter().enumerate() {
        let Some(terminated) = before["state"].sub("terminated") else { continue };
        let name = before.text("name");
        let after = new["status"].list(list).iter().find(|after| after.text("name") == name);
        if after.is_none_or(|after| after["state"].has("terminated")) {
            continue;
        }
        let container = containers.and_then(|list| {
            spec.list(list).iter().find(|container| container.text("name") == name)
        });
        let code = terminated.int("exitCode").unwrap_or_default();
        if !container.is_some_and(|container| restarts(spec, container, code)) {
            let path = Path::root("status").child(list).index(at).child("state");
            errors.forbidden(&path, "may not be transitioned to non-terminated state");
        }
    }
}

fn restarts(spec: &Value, container: &Value, code: i64) -> bool {
    for rule in container.list("restartPolicyRules") {
        let codes = &rule["exitCodes"];
        let listed = codes.list("values").iter().any(|value| value.as_i64() == Some(code));
        let matches = match codes.text("operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if matches {
            return rule.text("action") == "Restart";
        }
    }
    let own = container.opt_text("restartPolicy");
    match own.unwrap_or_else(|| spec.text("restartPolicy")) {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

/// Claims that were made for the pod, by the names that its spec gives them.
fn claims(pod: &Value, path: &Path, errors: &mut Errors) {
    let (all, known) =
        (pod["status"].list("resourceClaimStatuses"), pod["spec"].list("resourceClaims"));
    for (at, status) in all.iter().enumerate() {
        let (name, path) = (status.text("name"), path.index(at));
        if !known.iter().any(|claim| claim.text("name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&path.child("name"), name, detail);
        }
        if all[..at].iter().any(|other| other.text("name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
        if let Some(claim) = status.opt_text("resourceClaimName") {
            dns_subdomain(claim, &path.child("resourceClaimName"), errors);
        }
    }
}

fn ips(was: &Value, is: &Value, single: &str, list: &str, path: &Path, errors: &mut Errors) {
    let path = path.child(list);
    let known: Vec<&str> = was.list(list).iter().map(|ip| ip.text("ip")).collect();
    let all = is.list(list);
    let (one, first) = (is.text(single), all.first().map(|first| first.text("ip")));
    let other = first.filter(|first| *first != one);
    let differs = |errors: &mut Errors| {
        if let Some(first) = other {
            let detail = format!("must be equal to `{single}`");
            errors.invalid(&path.index(0).child("ip"), first, &detail);
        }
    };
    if single == "hostIP" {
        differs(errors);
    }
    for (at, ip) in all.iter().enumerate() {
        let ip = ip.text("ip");
        if !known.contains(&ip) {
            addresses::ip(ip, &path.index(at), errors);
        }
    }
    if all.len() > 1 {
        let is_ip = |ip: &Value| addresses::is_ip(ip.text("ip"));
        let bad = all.iter().position(|ip| !is_ip(ip));
        if let Some((at, bad)) = bad.and_then(|at| Some((at, all.get(at)?.text("ip")))) {
            let detail =
                format!("failed to check for dual stack with error:invalid IP[{at}]: {bad}");
            errors.push(FieldError::internal(&path, &detail));
        }
        let six = all.iter().filter(|ip| ip.text("ip").contains(':')).count();
        if bad.is_some() || six != 1 || all.len() > 2 {
            let detail = "may specify no more than one IP for each IP family";
            errors.invalid(&path, all.to_vec(), detail);
        }
    }
    if single == "podIP" {
        if first.is_some() == one.is_empty() {
            let detail = "podIP and podIPs must either both be set or both be unset";
            errors.invalid(&path, all.to_vec(), detail);
        } else {
            differs(errors);
        }
    }
}
