//! The conditions of a pod that the kubelet owns.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use crate::podspec::{PodExt, is_sidecar, now};

/// Condition types that the kubelet alone writes.
const OWNED: [&str; 8] = [
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodReadyToStartContainers",
    "AllContainersRestarting",
    "PodResizePending",
    "PodResizeInProgress",
];

/// Whether the kubelet owns a condition.
pub(crate) fn owned(condition: &str) -> bool {
    OWNED.contains(&condition)
}

/// A condition of this pod version.
pub(crate) fn condition(
    pod: &Pod,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
) -> PodCondition {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: text(reason),
        message: text(message),
        observed_generation: Some(pod.generation()).filter(|g| *g > 0),
        ..PodCondition::default()
    }
}

/// The condition called `kind`.
pub(crate) fn find<'a>(conditions: &'a [PodCondition], kind: &str) -> Option<&'a PodCondition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Names as Go prints a list: `[a b]`.
fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn unready_message(unknown: &[&str], unready: &[&str], what: &str) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", names(unknown)));
    }
    if !unready.is_empty() {
        parts.push(format!("containers with {what} status: {}", names(unready)));
    }
    parts.join(", ")
}

/// `ContainersReady`.
pub(crate) fn containers_ready(
    pod: &Pod,
    statuses: &[ContainerStatus],
    phase: &str,
) -> PodCondition {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let counted = pod.init_containers().iter().filter(|c| is_sidecar(c)).chain(pod.containers());
    for container in counted {
        match statuses.iter().find(|s| s.name == container.name) {
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
            None => unknown.push(container.name.as_str()),
        }
    }
    let kind = "ContainersReady";
    match phase {
        "Succeeded" if unknown.is_empty() => condition(pod, kind, false, "PodCompleted", ""),
        "Failed" => condition(pod, kind, false, "PodFailed", ""),
        _ if unknown.is_empty() && unready.is_empty() => condition(pod, kind, true, "", ""),
        _ => {
            let message = unready_message(&unknown, &unready, "unready");
            condition(pod, kind, false, "ContainersNotReady", &message)
        }
    }
}

/// `Ready`: the containers are, and all readiness gates are true among `conditions`.
pub(crate) fn ready(
    pod: &Pod,
    containers_ready: &PodCondition,
    conditions: &[PodCondition],
) -> PodCondition {
    if containers_ready.status != "True" {
        return PodCondition { type_: "Ready".to_owned(), ..containers_ready.clone() };
    }
    let mut missing = Vec::new();
    for gate in pod.spec_or_empty().readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match find(conditions, name) {
            None => missing.push(format!(
                "corresponding condition of pod readiness gate {name:?} does not exist."
            )),
            Some(found) if found.status != "True" => missing.push(format!(
                "the status of pod readiness gate {name:?} is not \"True\", but {}",
                found.status
            )),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        condition(pod, "Ready", true, "", "")
    } else {
        condition(pod, "Ready", false, "ReadinessGatesNotReady", &missing.join(", "))
    }
}

/// `Initialized`.
pub(crate) fn initialized(
    pod: &Pod,
    old: &PodStatus,
    statuses: &[ContainerStatus],
    phase: &str,
) -> PodCondition {
    let kind = "Initialized";
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in pod.init_containers() {
        match statuses.iter().find(|s| s.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done =
                    if is_sidecar(container) { status.started == Some(true) } else { status.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(pod, kind, true, "PodCompleted", "");
    }
    let regular_started = pod.containers().iter().any(|c| {
        statuses
            .iter()
            .find(|s| s.name == c.name)
            .and_then(|s| s.state.as_ref())
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    if regular_started || (unknown.is_empty() && incomplete.is_empty()) {
        return condition(pod, kind, true, "", "");
    }
    // Init containers that run again because all are restarted do not undo the initialization.
    let was = old.conditions.as_deref().unwrap_or_default();
    if find(was, kind).is_some_and(|c| c.status == "True") {
        return condition(pod, kind, true, "", "");
    }
    let message = unready_message(&unknown, &incomplete, "incomplete");
    condition(pod, kind, false, "ContainersNotInitialized", &message)
}

/// Keeps the time of the last transition where the status is the same as before.
pub(crate) fn keep_transition_times(new: &mut [PodCondition], old: &[PodCondition]) {
    for condition in new {
        if condition.last_transition_time.is_some() && !owned(&condition.type_) {
            continue;
        }
        condition.last_transition_time = match find(old, &condition.type_) {
            Some(before) if before.status == condition.status => {
                before.last_transition_time.clone().or_else(|| Some(now()))
            }
            _ => Some(now()),
        };
    }
}
