//! The phase of a pod, from its container statuses.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::podspec::{PodExt, is_sidecar, should_restart};

/// Reason of a container that ends because all containers of the pod are restarted.
pub(crate) const RESTARTING_ALL: &str = "RestartingAllContainers";

/// Computes the phase. `terminal` says that nothing will be started again whatever the restart
/// policy; `initialized` that a regular container of the present sandbox was started.
pub(crate) fn phase(
    pod: &Pod,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    terminal: bool,
    initialized: bool,
) -> &'static str {
    let policy = pod.restart_policy();
    let mut pending_init = 0;
    let mut failed_init_for_good = 0;
    for container in pod.init_containers().iter().filter(|c| !is_sidecar(c)) {
        let status = init.iter().find(|s| s.name == container.name);
        let ended = match status.and_then(|s| s.state.as_ref().map(|state| (s, state))) {
            Some((_, state)) if state.terminated.is_some() => state.terminated.as_ref(),
            Some((status, state)) if state.waiting.is_some() => {
                let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
                if last.is_none() {
                    pending_init += 1;
                }
                last
            }
            _ => {
                pending_init += 1;
                None
            }
        };
        if let Some(ended) = ended
            && ended.exit_code != 0
            && ended.reason.as_deref() != Some(RESTARTING_ALL)
            && !should_restart(container, policy, ended.exit_code)
        {
            failed_init_for_good += 1;
        }
    }

    let (mut unknown, mut running, mut waiting, mut pending_sidecars) = (0, 0, 0, 0);
    for container in pod.init_containers().iter().filter(|c| is_sidecar(c)) {
        let status = init.iter().find(|s| s.name == container.name);
        let Some((status, state)) = status.and_then(|s| Some((s, s.state.as_ref()?))) else {
            unknown += 1;
            continue;
        };
        if state.running.is_some() {
            if status.started != Some(true) {
                pending_sidecars += 1;
            }
            running += 1;
        } else if state.waiting.is_some() {
            // A sidecar that ran before does not count for the phase.
            if status.last_state.as_ref().is_none_or(|s| s.terminated.is_none()) {
                pending_sidecars += 1;
                waiting += 1;
            }
        } else if state.terminated.is_none() {
            pending_sidecars += 1;
            unknown += 1;
        }
    }

    let (mut stopped, mut stopped_for_good, mut succeeded) = (0, 0, 0);
    for container in pod.containers() {
        let status = regular.iter().find(|s| s.name == container.name);
        let Some((status, state)) = status.and_then(|s| Some((s, s.state.as_ref()?))) else {
            unknown += 1;
            continue;
        };
        let ended = if state.running.is_some() {
            running += 1;
            continue;
        } else if let Some(ended) = &state.terminated {
            if ended.exit_code == 0 {
                succeeded += 1;
            }
            ended
        } else if state.waiting.is_some() {
            match status.last_state.as_ref().and_then(|s| s.terminated.as_ref()) {
                Some(ended) => ended,
                None => {
                    waiting += 1;
                    continue;
                }
            }
        } else {
            unknown += 1;
            continue;
        };
        stopped += 1;
        if ended.reason.as_deref() != Some(RESTARTING_ALL)
            && !should_restart(container, policy, ended.exit_code)
        {
            stopped_for_good += 1;
        }
    }

    if failed_init_for_good > 0 {
        return "Failed";
    }
    if pending_init > 0 || (pending_sidecars > 0 && !initialized) || waiting > 0 {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        let ended = if stopped == succeeded { "Succeeded" } else { "Failed" };
        // A static pod is started again by its manifest, so it is never final.
        if terminal && !pod.is_static() {
            return ended;
        }
        return if stopped == stopped_for_good { ended } else { "Running" };
    }
    "Pending"
}
