//! PodSecurity: the pod security standards (KEP-2579), per namespace by its
//! `pod-security.kubernetes.io/*` labels: `enforce` refuses pods, `warn` warns of pods and of
//! workloads that make them.

mod baseline;
mod checks;
mod policy;
mod restricted;

use std::collections::BTreeMap;

use apimachinery::{GroupVersionKind, Status, status::Details};
use async_trait::async_trait;
use serde_json::Value;

use self::{
    checks::evaluate,
    policy::{Level, LevelVersion, Policy},
};
use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::Fields as _;

pub(super) struct PodSecurity;

/// How many pods of a namespace are looked at when its level is raised.
const MOST_PODS: usize = 3000;

/// Subresources of pods through which no spec is written.
const IGNORED: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

#[async_trait]
impl Plugin for PodSecurity {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        if !request.creates() && !request.updates() {
            return false;
        }
        let sub = request.info.subresource.as_str();
        match (request.info.group.as_str(), request.info.resource.as_str()) {
            ("", "pods") => !IGNORED.contains(&sub),
            ("", "namespaces" | "podtemplates" | "replicationcontrollers")
            | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
            | ("batch", "jobs" | "cronjobs") => sub.is_empty(),
            _ => false,
        }
    }

    async fn validate(&self, call: &Call<'_>, object: &Value) -> Result<(), Status> {
        let request = call.request;
        if request.is("", "namespaces") {
            return namespace(call, object);
        }
        let is_pod = request.is("", "pods");
        let name = &request.info.namespace;
        let Some(labels) = call.server.get("", "namespaces", "", name) else {
            return match is_pod {
                true => Err(Status::internal(format!("failed to lookup namespace {name:?}"))),
                false => Ok(()),
            };
        };
        let (policy, errors) = Policy::of(|label| labels.label(label));
        let warns = policy.warn.level != Level::Privileged;
        let enforces = is_pod && policy.enforce.level != Level::Privileged;
        if errors.is_empty() && !warns && !enforces {
            return Ok(());
        }
        let pod = template(request, object);
        if pod["spec"].is_null() || is_pod && request.old.is_some_and(|old| !matters(pod, old)) {
            return Ok(());
        }
        if is_pod {
            let found = evaluate(policy.enforce, pod);
            if !found.is_empty() {
                let why = format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    checks::details(&found)
                );
                return Err(request.forbidden(object, &why));
            }
        }
        let found = evaluate(policy.warn, pod);
        if !found.is_empty() {
            call.warnings.add(format!(
                "would violate PodSecurity \"{}\": {}",
                policy.warn,
                checks::details(&found)
            ));
        }
        Ok(())
    }
}

/// The pod, or what a workload makes pods from.
fn template<'a>(request: &AdmissionRequest<'_>, object: &'a Value) -> &'a Value {
    match request.info.resource.as_str() {
        "pods" => object,
        "podtemplates" => &object["template"],
        "cronjobs" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => &object["spec"]["template"],
    }
}

/// Whether anything changed that a standard could speak of: images, as all else stays.
fn matters(new: &Value, old: &Value) -> bool {
    let changed = ["containers", "initContainers"].iter().any(|list| {
        let (new, old) = (new["spec"].list(list), old["spec"].list(list));
        new.len() != old.len()
            || new.iter().zip(old).any(|(new, old)| new.text("image") != old.text("image"))
    });
    changed
        || new["spec"].list("ephemeralContainers").iter().any(|container| {
            let mut before = old["spec"].list("ephemeralContainers").iter();
            before
                .find(|old| old.text("name") == container.text("name"))
                .is_none_or(|old| old.text("image") != container.text("image"))
        })
}

/// Labels must make sense, and whoever raises the level hears of pods that violate it.
fn namespace(call: &Call<'_>, namespace: &Value) -> Result<(), Status> {
    let request = call.request;
    let name = namespace["metadata"].text("name");
    let of = |namespace: &Value| {
        let labels = namespace["metadata"]["labels"].clone();
        Policy::of(|label| labels.opt_text(label).map(ToOwned::to_owned))
    };
    let (new, errors) = of(namespace);
    let (old, old_errors) = of(request.old());
    if !errors.is_empty() && (request.creates() || errors != old_errors) {
        let kind = GroupVersionKind::new("", "v1", "Namespace");
        let mut status = Status::invalid(&kind, name, &errors);
        status.details = Details { group: String::new(), ..status.details };
        return Err(status);
    }
    let relaxed =
        new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
    if request.creates() || new.enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    for warning in pods_in(call, name, new.enforce) {
        call.warnings.add(warning);
    }
    Ok(())
}

fn pods_in(call: &Call<'_>, namespace: &str, enforce: LevelVersion) -> Vec<String> {
    let Some(pods) = call.list("", "pods") else { return Vec::new() };
    // One pod of each controller first: the others are most likely like it.
    let (mut first, mut more) = (Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for pod in pods.range(namespace) {
        match pod.controller() {
            Some(owner) if seen.contains(&owner.uid) => more.push(pod),
            owner => {
                seen.extend(owner.map(|owner| owner.uid.clone()));
                first.push(pod);
            }
        }
    }
    first.append(&mut more);
    let total = first.len();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in first.iter().take(MOST_PODS) {
        let Some(value) = super::value(pod) else { continue };
        let violations = evaluate(enforce, &value);
        if !violations.is_empty() {
            found.entry(checks::reasons(&violations)).or_default().push(pod.key.name.to_string());
        }
    }
    let mut warnings = Vec::new();
    if total > MOST_PODS {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} \
             existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \
             \"{enforce}\""
        ));
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(reasons, pods)| {
            let first = pods.iter().min().map(String::as_str).unwrap_or_default();
            match pods.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                n => format!("{first} (and {} other pods): {reasons}", n - 1),
            }
        })
        .collect();
    each.sort();
    warnings.append(&mut each);
    warnings
}
