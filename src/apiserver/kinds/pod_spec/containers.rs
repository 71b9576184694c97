//! Containers: regular, init and ephemeral ones.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::{Spec, env, mounts, probes, requirements, security};
use crate::kinds::{
    validation::{Errors, Report as _, dns_label, one_of, port_number},
    value::Fields as _,
};

/// The lists of containers in a spec.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a spec with the name of their list and their place in it.
pub(crate) fn all_containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    LISTS.into_iter().flat_map(move |list| {
        spec.list(list).iter().enumerate().map(move |(at, container)| (list, at, container))
    })
}

pub(super) fn containers(spec: &Spec<'_>, path: &Path, errors: &mut Errors) {
    let all = spec.value.list("containers");
    if all.is_empty() {
        return errors.required(path, "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for (at, container) in all.iter().enumerate() {
        let path = path.index(at);
        common(spec, container, &path, errors);
        let name = container.text("name");
        if seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        seen.push(name);
        probes::lifecycle(spec, container, &path, errors);
        probes::probes(spec, container, &path, errors);
        restart_rules(container, &path, errors);
        if spec.options.is_pod {
            trimmed_image(container, &path, errors);
        }
    }
    unique_host_ports(all, path, errors);
}

pub(super) fn init_containers(spec: &Spec<'_>, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> =
        spec.value.list("containers").iter().map(|c| c.text("name")).collect();
    for (at, container) in spec.value.list("initContainers").iter().enumerate() {
        let place = path.index(at);
        common(spec, container, &place, errors);
        if container.has("restartPolicy") || !container.list("restartPolicyRules").is_empty() {
            restart_rules(container, &place, errors);
        }
        let name = container.text("name");
        if seen.contains(&name) {
            errors.duplicate(&place.child("name"), name);
        } else if !name.is_empty() {
            seen.push(name);
        }
        unique_host_ports(std::slice::from_ref(container), path, errors);
        let sidecar = container.text("restartPolicy") == "Always";
        if sidecar {
            probes::lifecycle(spec, container, &place, errors);
            probes::probes(spec, container, &place, errors);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.has(field) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    errors.forbidden(&place.child(field), detail);
                }
            }
            for (at, policy) in container.list("resizePolicy").iter().enumerate() {
                if policy.text("restartPolicy") == "RestartContainer" {
                    let detail =
                        "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    let place = place.child("resizePolicy").index(at).child("restartPolicy");
                    errors.invalid(&place, "RestartContainer", detail);
                }
            }
        }
        if spec.options.is_pod {
            trimmed_image(container, &place, errors);
        }
    }
}

/// Fields that an ephemeral container may not have.
const NOT_EPHEMERAL: [&str; 9] = [
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "startupProbe",
];

pub(super) fn ephemeral_containers(spec: &Spec<'_>, path: &Path, errors: &mut Errors) {
    let others = ["containers", "initContainers"].into_iter();
    let others: Vec<&str> =
        others.flat_map(|list| spec.value.list(list)).map(|c| c.text("name")).collect();
    let mut seen = others.clone();
    for (at, container) in spec.value.list("ephemeralContainers").iter().enumerate() {
        let path = path.index(at);
        common(spec, container, &path, errors);
        trimmed_image(container, &path, errors);
        let name = container.text("name");
        if seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        seen.push(name);
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        const CANNOT: &str = "cannot be set for an Ephemeral Container";
        for field in NOT_EPHEMERAL {
            let empty = match &container[field] {
                Value::Null => true,
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !empty {
                errors.forbidden(&path.child(field), CANNOT);
            }
        }
        for (at, mount) in container.list("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    errors.forbidden(&path.child("volumeMounts").index(at).child(field), CANNOT);
                }
            }
        }
    }
}

/// What holds for every container.
fn common(spec: &Spec<'_>, container: &Value, path: &Path, errors: &mut Errors) {
    match container.text("name") {
        "" => errors.required(&path.child("name"), ""),
        name => dns_label(name, &path.child("name"), errors),
    }
    if container.text("image").is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(container, "terminationMessagePolicy", path, &policies, errors);
    ports(container, &path.child("ports"), errors);
    env::env(container, &path.child("env"), errors);
    env::env_from(container, &path.child("envFrom"), errors);
    mounts::mounts(spec, container, &path.child("volumeMounts"), errors);
    mounts::devices(spec, container, &path.child("volumeDevices"), errors);
    one_of(container, "imagePullPolicy", path, &["Always", "IfNotPresent", "Never"], errors);
    if let Some(resources) = container.sub("resources") {
        requirements::limits_and_requests(
            resources,
            &spec.claims,
            &path.child("resources"),
            errors,
        );
    }
    requirements::resize_policy(spec.value, container, &path.child("resizePolicy"), errors);
    if let Some(context) = container.sub("securityContext") {
        security::of_container(context, &path.child("securityContext"), spec.host_users, errors);
    }
}

fn trimmed_image(container: &Value, path: &Path, errors: &mut Errors) {
    let image = container.text("image");
    if image.trim().len() != image.len() {
        let detail = "must not have leading or trailing whitespace";
        errors.invalid(&path.child("image"), image, detail);
    }
}

fn ports(container: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (at, port) in container.list("ports").iter().enumerate() {
        let path = path.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                errors.messages(&path.child("name"), name, messages);
            } else if seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            } else {
                seen.push(name);
            }
        }
        match port.int("containerPort").unwrap_or_default() {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(number, &path.child("containerPort"), errors),
        }
        match port.int("hostPort").unwrap_or_default() {
            0 => {}
            number => port_number(number, &path.child("hostPort"), errors),
        }
        one_of(port, "protocol", &path, &["SCTP", "TCP", "UDP"], errors);
    }
}

/// Host ports must be unique among containers that run at once.
fn unique_host_ports(containers: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for (at, container) in containers.iter().enumerate() {
        for (index, port) in container.list("ports").iter().enumerate() {
            let number = port.int("hostPort").unwrap_or_default();
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if seen.contains(&key) {
                let path = path.index(at).child("ports").index(index).child("hostPort");
                errors.duplicate(&path, key.as_str());
            }
            seen.push(key);
        }
    }
}

/// A container's own restart policy and its rules.
fn restart_rules(container: &Value, path: &Path, errors: &mut Errors) {
    let rules = container.list("restartPolicyRules");
    match container.opt_text("restartPolicy") {
        None if rules.is_empty() => return,
        None => {
            let detail = "must specify restartPolicy when restart rules are used";
            errors.required(&path.child("restartPolicy"), detail);
        }
        Some("Always" | "Never" | "OnFailure") => {}
        Some(other) => {
            let allowed = ["Always", "Never", "OnFailure"];
            errors.unsupported(&path.child("restartPolicy"), other, &allowed);
        }
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&path, rules.len(), 20));
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        let action = rule.text("action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            errors.unsupported(&path.child("action"), action, &["Restart", "RestartAllContainers"]);
        }
        let path = path.child("exitCodes");
        let Some(codes) = rule.sub("exitCodes") else {
            errors.required(&path, "must be specified");
            continue;
        };
        let operator = codes.text("operator");
        if !matches!(operator, "In" | "NotIn") {
            errors.unsupported(&path.child("operator"), operator, &["In", "NotIn"]);
        }
        let values = codes.list("values").len();
        if values > 255 {
            errors.push(FieldError::too_many(&path.child("values"), values, 255));
        }
    }
}
