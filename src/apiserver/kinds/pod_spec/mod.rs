//! The pod spec, which Pods and the templates of all workloads share: defaults and validation by
//! topic, worded as upstream's `pkg/apis/core/validation`.

mod affinity;
mod containers;
mod defaults;
mod env;
mod features;
mod image;
pub(crate) mod legacy_volumes;
mod mounts;
mod network;
mod os;
mod probes;
mod projected;
mod requirements;
mod scheduling;
mod security;
mod template;
#[cfg(test)]
mod tests;
pub(crate) mod volumes;
mod windows;

use apimachinery::{field::Path, names};
use serde_json::Value;

pub(crate) use self::{
    affinity::node_selector,
    containers::all_containers,
    defaults::{
        default_host_ports, default_pod_level, default_requests, default_spec, default_template,
    },
    features::{drop_disabled, drop_from_template},
    requirements::{limits_and_requests, totals},
    scheduling::{taint_effect, tolerations},
    security::{annotations_match, security_of_annotation},
    template::{pod_annotations, template},
    volumes::csi_driver_name,
};
use super::{
    validation::{Errors, Report as _, labels},
    value::Fields as _,
};

/// What is being validated.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// A Pod, not a template: host ports must be set, and names of images be trimmed.
    pub(crate) is_pod: bool,
}

/// Facts of a spec that the checks of its parts need.
struct Spec<'a> {
    value: &'a Value,
    options: Options,
    /// `terminationGracePeriodSeconds`.
    grace: Option<i64>,
    /// Volumes that are well-formed, by name.
    volumes: Vec<(&'a str, &'a Value)>,
    /// Names of resource claims.
    claims: Vec<&'a str>,
    host_users: bool,
}

/// Validates a pod spec. `meta` is the metadata of the Pod, where it is one.
pub(crate) fn validate(
    spec: &Value,
    meta: Option<&Value>,
    path: &Path,
    options: Options,
    errors: &mut Errors,
) {
    let grace = spec.int("terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::validate(spec, meta, &path.child("volumes"), errors);
    let claims = spec.list("resourceClaims").iter().map(|claim| claim.text("name"));
    let facts = Spec {
        value: spec,
        options,
        grace,
        volumes,
        claims: claims.filter(|name| !name.is_empty()).collect(),
        host_users: spec.flag("hostUsers").unwrap_or(true),
    };
    requirements::pod_claims(spec, meta, &path.child("resourceClaims"), errors);
    containers::containers(&facts, &path.child("containers"), errors);
    containers::init_containers(&facts, &path.child("initContainers"), errors);
    containers::ephemeral_containers(&facts, &path.child("ephemeralContainers"), errors);
    requirements::of_pod(&facts, path, errors);
    network::host_ports(&facts, &path.child("containers"), errors);
    restart_policy(spec, path, errors);
    super::validation::one_of(
        spec,
        "dnsPolicy",
        path,
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    labels(spec, "nodeSelector", path, errors);
    security::of_pod(spec, &path.child("securityContext"), errors);
    if spec.on("shareProcessNamespace") && spec.on("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&path.child("shareProcessNamespace"), true, detail);
    }
    affinity::validate(spec, &path.child("affinity"), errors);
    network::dns_config(spec, &path.child("dnsConfig"), errors);
    scheduling::gates(spec, path, errors);
    scheduling::spread(spec, &path.child("topologySpreadConstraints"), errors);
    os::windows_host_process(spec, path, errors);
    security::host_users(spec, path, errors);
    network::hostname_override(spec, path, errors);
    names_of_others(spec, path, errors);
    if let Some(seconds) = spec.int("activeDeadlineSeconds") {
        for message in names::in_range(seconds, 1, i64::from(i32::MAX)) {
            errors.invalid(&path.child("activeDeadlineSeconds"), seconds, &message);
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.text(field);
        if !name.is_empty() {
            super::validation::dns_label(name, &path.child(field), errors);
        }
    }
    tolerations(spec, path, errors);
    network::host_aliases(spec, &path.child("hostAliases"), errors);
    classes(spec, path, errors);
    if spec.has("overhead") {
        let overhead = serde_json::json!({ "limits": spec["overhead"] });
        limits_and_requests(&overhead, &[], &path.child("overhead"), errors);
    }
    os::validate(spec, path, errors);
    mounts::file_key_volumes(spec, path, errors);
}

fn restart_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    super::validation::one_of(
        spec,
        "restartPolicy",
        path,
        &["Always", "OnFailure", "Never"],
        errors,
    );
}

/// Names of a service account and a node.
fn names_of_others(spec: &Value, path: &Path, errors: &mut Errors) {
    let account = spec.text("serviceAccountName");
    if !account.is_empty() {
        let messages = names::dns1123_subdomain(account);
        errors.messages(&path.child("serviceAccountName"), account, messages);
    }
    let node = spec.text("nodeName");
    if !node.is_empty() {
        errors.messages(&path.child("nodeName"), node, names::dns1123_subdomain(node));
    }
}

/// Names of classes, and the preemption policy.
fn classes(spec: &Value, path: &Path, errors: &mut Errors) {
    let priority = spec.text("priorityClassName");
    if !priority.is_empty() {
        let messages = names::dns1123_subdomain(priority);
        errors.messages(&path.child("priorityClassName"), priority, messages);
    }
    if let Some(runtime) = spec.opt_text("runtimeClassName") {
        let messages = names::dns1123_subdomain(runtime);
        errors.messages(&path.child("runtimeClassName"), runtime, messages);
    }
    if spec.has("preemptionPolicy") {
        let allowed = ["PreemptLowerPriority", "Never"];
        super::validation::one_of(spec, "preemptionPolicy", path, &allowed, errors);
    }
}
