//! Looks at what runs of a pod, and remembers of ended containers what is read only once.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::Path,
    time::SystemTime,
};

use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{ContainerSpec, ExitStatus, Image, Sandbox, Status};

use super::{
    termination_message,
    view::{ContainerState, ContainerView, Exit, PodView},
};
use crate::{
    images::name,
    podspec::{PodExt, from_system},
};

/// What the kubelet keeps with a container, to know it again after a restart.
const SPEC_IMAGE: &str = "spec-image";
const IMAGE: &str = "image";
const IMAGE_ID: &str = "image-id";
const RESOURCES: &str = "resources";
const TERMINATION_FILE: &str = "termination-file";
const FALL_BACK_TO_LOG: &str = "termination-fall-back-to-log";

/// What is kept with a container that is about to be started.
pub(super) fn annotations(
    container: &Container,
    image: &Image,
    termination_file: Option<&Path>,
) -> BTreeMap<String, String> {
    let wanted = container.image.clone().unwrap_or_default();
    let full = name::full(&wanted);
    let shown = image
        .names
        .iter()
        .find(|name| Some(*name) == full.as_ref())
        .or_else(|| image.names.first())
        .cloned()
        .unwrap_or_else(|| wanted.clone());
    let mut kept = BTreeMap::from([
        (SPEC_IMAGE.to_owned(), wanted),
        (IMAGE.to_owned(), shown),
        (IMAGE_ID.to_owned(), image.digests.first().unwrap_or(&image.id).clone()),
    ]);
    let resources = container.resources.clone().unwrap_or_default();
    if let Ok(text) = serde_json::to_string(&resources) {
        kept.insert(RESOURCES.to_owned(), text);
    }
    if let Some(file) = termination_file {
        kept.insert(TERMINATION_FILE.to_owned(), file.display().to_string());
    }
    if container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError") {
        kept.insert(FALL_BACK_TO_LOG.to_owned(), "true".to_owned());
    }
    kept
}

/// The eye on one pod.
#[derive(Default)]
pub(super) struct Observer {
    /// How the containers that the runtime still knows ended, by id.
    ended: HashMap<String, Exit>,
    /// Ended instances that the runtime does not know (any more).
    kept: Vec<ContainerView>,
    /// Resources in force that differ from what containers were started with, by id.
    pub(super) resized: HashMap<String, k8s_openapi::api::core::v1::ResourceRequirements>,
}

impl Observer {
    /// Remembers an instance that the runtime does not know: it could not be started, or was lost.
    pub(super) fn keep(&mut self, instance: ContainerView) {
        self.kept.retain(|other| other.id != instance.id);
        self.kept.push(instance);
    }

    /// Forgets the kept instances of all containers, or of one.
    pub(super) fn forget(&mut self, name: Option<&str>) {
        self.kept.retain(|instance| name.is_some_and(|name| instance.name != name));
    }

    /// The pod as it runs now.
    pub(super) fn look(&mut self, pod: &Pod, sandbox: Option<&Sandbox>, ips: &[IpAddr]) -> PodView {
        let mut containers = self.kept.clone();
        let mut known = Vec::new();
        for state in sandbox.iter().flat_map(|sandbox| sandbox.containers()) {
            let spec = sandbox.and_then(|sandbox| sandbox.container_spec(&state.id));
            let empty = ContainerSpec::default();
            let spec = spec.as_deref().unwrap_or(&empty);
            let text = |key: &str| spec.annotations.get(key).cloned().unwrap_or_default();
            known.push(state.id.clone());
            let shown = match &state.status {
                Status::Running => ContainerState::Running,
                Status::Exited(exit) => ContainerState::Exited(
                    self.ended.entry(state.id.clone()).or_insert_with(|| ended(exit, spec)).clone(),
                ),
            };
            let resources = self
                .resized
                .get(&state.id)
                .cloned()
                .or_else(|| serde_json::from_str(&text(RESOURCES)).ok());
            containers.retain(|kept| kept.id != state.id);
            containers.push(ContainerView {
                id: state.id,
                name: state.name,
                attempt: state.attempt,
                spec_image: text(SPEC_IMAGE),
                image: text(IMAGE),
                image_id: text(IMAGE_ID),
                state: shown,
                started_at: from_system(state.started_at),
                user: Some(state.user),
                resources,
            });
        }
        self.ended.retain(|id, _| known.contains(id));
        self.resized.retain(|id, _| known.contains(id));
        containers.sort_by_key(|c| std::cmp::Reverse((c.attempt, c.started_at)));
        let connected = pod.host_network() || !ips.is_empty();
        PodView { sandbox: sandbox.is_some() && connected, ips: ips.to_vec(), containers }
    }
}

/// The end of a container in the words of its status.
fn ended(exit: &ExitStatus, spec: &ContainerSpec) -> Exit {
    let reason = match exit.code {
        _ if exit.oom_killed => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    let file = spec.annotations.get(TERMINATION_FILE).map(Path::new);
    let fall_back = spec.annotations.contains_key(FALL_BACK_TO_LOG);
    let said = termination_message::read(file, spec.log_path.as_deref(), fall_back, exit.code);
    let message = match (exit.message.is_empty(), said.is_empty()) {
        (true, _) => said,
        (false, true) => exit.message.clone(),
        (false, false) => format!("{}: {said}", exit.message),
    };
    Exit {
        code: exit.code,
        reason: reason.to_owned(),
        message,
        finished_at: from_system(exit.finished_at),
    }
}

/// An instance that ended before its process ran.
pub(super) fn failed_start(spec: &ContainerSpec, message: String) -> ContainerView {
    let text = |key: &str| spec.annotations.get(key).cloned().unwrap_or_default();
    ContainerView {
        id: spec.id.clone(),
        name: spec.name.clone(),
        attempt: spec.attempt,
        spec_image: text(SPEC_IMAGE),
        image: text(IMAGE),
        image_id: text(IMAGE_ID),
        // As containerd reports it, the process began at the beginning of time.
        started_at: from_system(SystemTime::UNIX_EPOCH),
        state: ContainerState::Exited(Exit {
            code: 128,
            reason: "StartError".to_owned(),
            message,
            finished_at: jiff::Timestamp::now(),
        }),
        ..ContainerView::default()
    }
}
