//! A pod sandbox: the handle through which the node agent runs a pod's containers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linux::signal::Signal;

use crate::error::{Error, Result, StartError};
use crate::exec::{ExecOutput, ExecSession};
use crate::spec::{ContainerSpec, ExecSpec, Resources, SandboxSpec};
use crate::state::{ContainerState, ExitStatus, SandboxStats};

/// One pod's namespaces, cgroup and shim. A cheap handle.
#[derive(Clone, Debug)]
pub struct Sandbox {
    spec: Arc<SandboxSpec>,
}

impl Sandbox {
    /// What the sandbox was made from.
    pub fn spec(&self) -> &SandboxSpec {
        &self.spec
    }

    /// The pod's uid.
    pub fn pod_uid(&self) -> &str {
        &self.spec.pod_uid
    }

    /// The pinned network namespace; `None` on the host's network.
    pub fn netns_path(&self) -> Option<PathBuf> {
        None
    }

    /// All containers that were started and not yet removed.
    pub fn containers(&self) -> Vec<ContainerState> {
        Vec::new()
    }

    /// One container.
    pub fn container(&self, container_id: &str) -> Option<ContainerState> {
        self.containers().into_iter().find(|c| c.id == container_id)
    }

    /// What a container was made from, also after an adoption.
    pub fn container_spec(&self, container_id: &str) -> Option<Arc<ContainerSpec>> {
        let _ = container_id;
        None
    }

    /// Creates a container and runs its process. Comes back when the process was executed.
    pub async fn start_container(&self, spec: ContainerSpec) -> Result<ContainerState, StartError> {
        Err(StartError::ImageMissing(spec.image))
    }

    /// Signals a container's first process. No error when it has ended already.
    pub async fn signal(&self, container_id: &str, signal: Signal) -> Result<()> {
        let _ = signal;
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Kills every process of a container (SIGKILL).
    pub async fn kill(&self, container_id: &str) -> Result<()> {
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Waits until a container has ended.
    pub async fn wait(&self, container_id: &str) -> Result<ExitStatus> {
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Runs a process in a container.
    pub async fn exec(&self, container_id: &str, spec: ExecSpec) -> Result<ExecSession> {
        let _ = spec;
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Runs a command to its end and collects what it printed (16 MiB a stream at most). After
    /// `timeout` the command is killed and the error is [`Error::Timeout`]; zero is no limit.
    pub async fn exec_sync(
        &self,
        container_id: &str,
        argv: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutput> {
        let _ = (argv, timeout);
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Connects to the streams of a container's first process: its output from now on, and its
    /// stdin where the container has one and `stdin` is asked for.
    pub async fn attach(&self, container_id: &str, stdin: bool) -> Result<ExecSession> {
        let _ = stdin;
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Makes the shim open the container's log file anew, after somebody moved it.
    pub async fn reopen_log(&self, container_id: &str) -> Result<()> {
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Changes the limits of a running container.
    pub async fn update_container(&self, container_id: &str, resources: Resources) -> Result<()> {
        let _ = resources;
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Changes the limits of the pod.
    pub async fn update(&self, resources: Resources) -> Result<()> {
        let _ = resources;
        Err(Error::NotFound(self.pod_uid().to_owned()))
    }

    /// Kills a container if it runs and removes all that is left of it but its log. Idempotent.
    pub async fn remove_container(&self, container_id: &str) -> Result<()> {
        Err(Error::NotFound(container_id.to_owned()))
    }

    /// Removes the containers, the shim, the namespaces and the pod's cgroup. Idempotent. The log
    /// folder stays. Network interfaces in the namespace must be torn down before.
    pub async fn remove(&self) -> Result<()> {
        Err(Error::NotFound(self.pod_uid().to_owned()))
    }

    /// Usage of the pod and of each running container.
    pub async fn stats(&self) -> Result<SandboxStats> {
        Err(Error::NotFound(self.pod_uid().to_owned()))
    }
}
