//! The last words about a pod: how its status looks when nothing of it runs any more, and how it
//! looks while something still does.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

use super::{
    conditions::{condition, find, keep_transition_times, owned},
    containers::lost,
};
use crate::podspec::{PodExt, is_sidecar, is_terminal};

const UNKNOWN: &str = "ContainerStatusUnknown";
const NOT_LOCATED: &str = "The container could not be located when the pod was terminated";

/// Completes the status of a pod of which nothing runs: a container without a known end failed, and
/// the phase is final.
pub(crate) fn finish(pod: &Pod, status: &mut PodStatus) {
    let ended = |s: &ContainerStatus| s.state.as_ref().is_some_and(|s| s.terminated.is_some());
    if has_initialized(pod) {
        for container in status.container_statuses.iter_mut().flatten().filter(|s| !ended(s)) {
            container.state = Some(lost(UNKNOWN, NOT_LOCATED));
            container.ready = false;
            container.started = Some(false);
        }
    }
    if let Some(init) = &mut status.init_container_statuses {
        let attempted = attempted(init);
        for container in init.iter_mut().take(attempted).filter(|s| !ended(s)) {
            container.state = Some(lost(UNKNOWN, NOT_LOCATED));
            container.ready = false;
            container.started = Some(false);
        }
    }
    if !pod.is_static() && !is_terminal(status.phase.as_deref().unwrap_or_default()) {
        status.phase = Some("Failed".to_owned());
    }
    unready_when_final(pod, status);
}

/// How many init containers, counted from the first, have some trace of a start; at least one.
fn attempted(init: &[ContainerStatus]) -> usize {
    init.iter().rposition(was_started).map_or(1, |last| last + 1)
}

fn was_started(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    state.is_none_or(|s| s.waiting.is_none())
        || status.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
}

/// Whether there is some trace that the init containers had done their work.
fn has_initialized(pod: &Pod) -> bool {
    let Some(last) = pod.init_containers().last() else { return true };
    let Some(status) = &pod.status else { return false };
    if status.container_statuses.iter().flatten().any(was_started) {
        return true;
    }
    let Some(last_status) =
        status.init_container_statuses.iter().flatten().find(|s| s.name == last.name)
    else {
        return false;
    };
    if is_sidecar(last) {
        return last_status.started == Some(true)
            && last_status.state.as_ref().is_some_and(|s| s.running.is_some());
    }
    let succeeded = |state: &Option<ContainerState>| {
        state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0)
    };
    succeeded(&last_status.state) || succeeded(&last_status.last_state)
}

/// What may be reported of a computed status now: a final phase only when nothing runs any more,
/// for whoever sees it takes the pod's resources as free.
pub(crate) fn reportable(pod: &Pod, computed: &PodStatus, may_run: bool) -> PodStatus {
    let mut status = computed.clone();
    let api = pod.status.as_ref();
    let api_phase = api.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let becomes_final =
        !is_terminal(api_phase) && is_terminal(status.phase.as_deref().unwrap_or_default());
    if let Some(conditions) = &mut status.conditions {
        // The others' conditions stay as they are; that of a disruption comes with the final phase.
        conditions.retain(|c| {
            owned(&c.type_) || (c.type_ == "DisruptionTarget" && becomes_final && !may_run)
        });
    }
    if becomes_final && may_run {
        status.phase = Some(if api_phase.is_empty() { "Pending" } else { api_phase }.to_owned());
        status.reason = api.and_then(|s| s.reason.clone());
        status.message = api.and_then(|s| s.message.clone());
    }
    unready_when_final(pod, &mut status);
    status
}

fn unready_when_final(pod: &Pod, status: &mut PodStatus) {
    let reason = match status.phase.as_deref() {
        Some("Failed") => "PodFailed",
        Some("Succeeded") => "PodCompleted",
        _ => return,
    };
    let Some(conditions) = &mut status.conditions else { return };
    let old = conditions.clone();
    if ["Ready", "ContainersReady"].iter().all(|k| find(&old, k).is_none_or(|c| c.status != "True"))
    {
        return;
    }
    for kind in ["ContainersReady", "Ready"] {
        conditions.retain(|c| c.type_ != kind);
        conditions.push(condition(pod, kind, false, reason, ""));
    }
    keep_transition_times(conditions, &old);
}
