//! The statuses of a pod's containers.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, Pod,
    VolumeMountStatus,
};

use super::phase::RESTARTING_ALL;
use crate::{
    pods::view::{self, ContainerView, PodView},
    podspec::{Kind, PodExt, is_sidecar, plain, seconds},
};

/// Why a container could not be started: reason and message of its waiting state.
pub(crate) type Reasons = HashMap<String, (String, String)>;

/// Everything that the statuses of one list depend on.
pub(crate) struct Input<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) view: &'a PodView,
    pub(crate) reasons: &'a Reasons,
    /// All containers of the pod are being restarted.
    pub(crate) restarting_all: bool,
}

const UNKNOWN: &str = "ContainerStatusUnknown";

/// The statuses of one list of containers: regular and ephemeral ones by name, init containers in
/// the order of the spec, as upstream sorts them.
pub(crate) fn statuses(
    input: &Input<'_>,
    kind: Kind,
    old: &[ContainerStatus],
) -> Vec<ContainerStatus> {
    let ephemeral: Vec<Container>;
    let containers = match kind {
        Kind::Init => input.pod.init_containers(),
        Kind::Regular => input.pod.containers(),
        Kind::Ephemeral => {
            ephemeral = input.pod.ephemeral_containers().iter().map(plain).collect();
            &ephemeral
        }
    };
    let mut statuses: Vec<_> = containers
        .iter()
        .map(|container| {
            let before = old.iter().find(|s| s.name == container.name);
            one(input, kind, container, before)
        })
        .collect();
    if kind != Kind::Init {
        statuses.sort_by(|a, b| a.name.cmp(&b.name));
    }
    statuses
}

fn one(
    input: &Input<'_>,
    kind: Kind,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let mut instances = input.view.containers.iter().filter(|c| c.name == container.name);
    let newest = instances.next();
    let mut status = match newest {
        Some(newest) => {
            let mut status = converted(container, newest, old);
            if let Some(previous) = instances.next() {
                status.last_state = Some(state(previous));
            }
            status
        }
        None => absent(input, container, old),
    };
    if kind == Kind::Init {
        if newest.and_then(ContainerView::exit).is_some_and(|exit| exit.code == 0) {
            return status;
        }
        let waits = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
        if newest.is_none() && waits && !is_sidecar(container) && input.view.any_regular(input.pod)
        {
            // Its remains were collected, but the regular containers would not have been started.
            status.state = Some(terminated(ContainerStateTerminated {
                exit_code: 0,
                reason: Some("Completed".to_owned()),
                message: Some(
                    "Unable to get init container status from container runtime and pod has been \
                     initialized, treat it as exited normally"
                        .to_owned(),
                ),
                ..ContainerStateTerminated::default()
            }));
            return status;
        }
    }
    if input.view.wants_start(input.pod, container)
        && let Some((reason, message)) = input.reasons.get(&container.name)
    {
        if let Some(state) = &status.state
            && state.terminated.is_some()
        {
            status.last_state = Some(state.clone());
        }
        status.state = Some(waiting(reason, message));
    }
    status
}

/// The status of a container of which the runtime knows nothing.
fn absent(
    input: &Input<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let reason = if input.pod.init_containers().is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, "")),
        last_state: Some(ContainerState::default()),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    let old_state = old.state.clone().unwrap_or_default();
    if old_state.terminated.is_some() && !input.restarting_all {
        return old.clone();
    }
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone().or(status.last_state);
    if input.restarting_all && old_state.waiting.is_none() {
        let message = "The container is removed because RestartAllContainers in place";
        status.state = Some(waiting(RESTARTING_ALL, message));
        status.last_state = Some(lost(RESTARTING_ALL, message));
        status.restart_count += 1;
        return status;
    }
    let has_ended = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    if old_state.running.is_some() && !has_ended {
        // It ran and is not there any more: it ended, though nobody saw how.
        status.last_state = Some(lost(
            UNKNOWN,
            "The container could not be located when the pod was deleted.  The container used to \
             be Running",
        ));
        if !input.pod.deleting() {
            status.restart_count += 1;
        }
    }
    status
}

fn converted(
    container: &Container,
    it: &ContainerView,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: it.name.clone(),
        restart_count: i32::try_from(it.attempt).unwrap_or(i32::MAX),
        image: it.image.clone(),
        image_id: it.image_id.clone(),
        container_id: Some(it.api_id()),
        state: Some(state(it)),
        last_state: Some(ContainerState::default()),
        volume_mounts: volume_mounts(container),
        user: it.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: i64::from(user.uid),
                gid: i64::from(user.gid),
                supplemental_groups: Some(user.groups.iter().map(|g| i64::from(*g)).collect()),
            }),
        }),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        resources: Some(match (&it.resources, it.running()) {
            (Some(actual), true) => actual.clone(),
            _ => container.resources.clone().unwrap_or_default(),
        }),
        ..ContainerStatus::default()
    };
    if let Some(old) = old {
        status.restart_count = status.restart_count.max(old.restart_count);
        let ended = |state: &Option<ContainerState>| {
            state.as_ref().is_some_and(|state| state.terminated.is_some())
        };
        if old.container_id != status.container_id && ended(&old.state) {
            status.last_state = old.state.clone();
        } else if ended(&old.last_state) {
            status.last_state = old.last_state.clone();
        }
    }
    status
}

fn state(it: &ContainerView) -> ContainerState {
    match &it.state {
        view::ContainerState::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(seconds(it.started_at)) }),
            ..ContainerState::default()
        },
        view::ContainerState::Exited(exit) => terminated(ContainerStateTerminated {
            container_id: Some(it.api_id()),
            exit_code: exit.code,
            reason: Some(exit.reason.clone()),
            message: Some(exit.message.clone()).filter(|m| !m.is_empty()),
            started_at: Some(seconds(it.started_at)),
            finished_at: Some(seconds(exit.finished_at)),
            signal: None,
        }),
    }
}

fn terminated(state: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(state), ..ContainerState::default() }
}

/// The end of a container that nobody saw.
pub(super) fn lost(reason: &str, message: &str) -> ContainerState {
    terminated(ContainerStateTerminated {
        exit_code: 137,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..ContainerStateTerminated::default()
    })
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let statuses = mounts.iter().map(|mount| {
        let read_only = mount.read_only == Some(true);
        let recursive =
            matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only
                .then(|| if recursive { "Enabled" } else { "Disabled" }.to_owned()),
            ..VolumeMountStatus::default()
        }
    });
    (!mounts.is_empty()).then(|| statuses.collect())
}
