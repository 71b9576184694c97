//! What runs of a pod, as seen at one moment: the runtime's report, enriched with what only the
//! kubelet knows (how a container ended in words, its termination message).

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use runtime::ResolvedUser;

use crate::podspec::{PodExt, restart_rule, should_restart};

/// How container ids are written in the API: `knarr://<id>`.
pub(crate) const RUNTIME_NAME: &str = "knarr";

/// A pod as it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodView {
    /// A sandbox exists and, unless the pod is on the host's network, has its addresses.
    pub(crate) sandbox: bool,
    /// Addresses of the pod, the primary one first.
    pub(crate) ips: Vec<IpAddr>,
    /// Container instances, the newest first.
    pub(crate) containers: Vec<ContainerView>,
}

/// One instance of a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerView {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Restart count of this instance.
    pub(crate) attempt: u32,
    /// The image as the pod named it when the instance was made.
    pub(crate) spec_image: String,
    /// The image's full name.
    pub(crate) image: String,
    /// The image's name with digest, or its id.
    pub(crate) image_id: String,
    pub(crate) state: ContainerState,
    pub(crate) started_at: Timestamp,
    pub(crate) user: Option<ResolvedUser>,
    /// The resources that are in force.
    pub(crate) resources: Option<ResourceRequirements>,
}

/// Whether an instance runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum ContainerState {
    #[default]
    Running,
    Exited(Exit),
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, ...
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) finished_at: Timestamp,
}

impl ContainerView {
    pub(crate) fn running(&self) -> bool {
        self.state == ContainerState::Running
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            ContainerState::Running => None,
        }
    }

    /// The id as the API writes it.
    pub(crate) fn api_id(&self) -> String {
        format!("{RUNTIME_NAME}://{}", self.id)
    }
}

impl PodView {
    /// The newest instance of a container.
    pub(crate) fn newest(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// Whether some container runs.
    pub(crate) fn any_running(&self) -> bool {
        self.containers.iter().any(ContainerView::running)
    }

    /// Whether some regular container was started, which means that initialization is over.
    pub(crate) fn any_regular(&self, pod: &Pod) -> bool {
        pod.containers().iter().any(|c| self.newest(&c.name).is_some())
    }

    /// Whether a container has to be started (again).
    pub(crate) fn wants_start(&self, pod: &Pod, container: &Container) -> bool {
        if pod.deleting() {
            return false;
        }
        match self.newest(&container.name).map(ContainerView::exit) {
            None => true,
            Some(None) => false,
            Some(Some(exit)) => should_restart(container, pod.restart_policy(), exit.code),
        }
    }

    /// Whether a container ended in a way that restarts all containers of the pod.
    pub(crate) fn wants_restart_of_all(&self, pod: &Pod) -> bool {
        pod.init_containers().iter().chain(pod.containers()).any(|c| {
            self.newest(&c.name)
                .and_then(ContainerView::exit)
                .is_some_and(|exit| restart_rule(c, exit.code) == Some("RestartAllContainers"))
        })
    }
}
