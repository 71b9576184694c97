//! A pod sandbox: the handle through which the node agent runs a pod's containers.

mod adopt;
mod create;
mod exec;
mod remove;
mod start;
mod state;
mod stats;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linux::signal::Signal;

use crate::error::{Error, Result, StartError};
use crate::exec::{ExecOutput, ExecSession};
use crate::shim::protocol::Request;
use crate::spec::{ContainerSpec, ExecSpec, Resources, SandboxSpec};
use crate::state::{ContainerState, ExitStatus, SandboxStats, Status};
use crate::sync::blocking;

pub(crate) use adopt::adopt_all;
pub(crate) use create::create;
pub(crate) use remove::{clean_up, discard};
pub(crate) use state::{Inner, Shared};

/// One pod's namespaces, cgroup and shim. A cheap handle.
#[derive(Clone, Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

impl Sandbox {
    pub(crate) fn new(inner: Arc<Inner>) -> Sandbox {
        Sandbox { inner }
    }

    /// What the sandbox was made from.
    pub fn spec(&self) -> &SandboxSpec {
        &self.inner.spec
    }

    /// The pod's uid.
    pub fn pod_uid(&self) -> &str {
        &self.inner.spec.pod_uid
    }

    /// The pinned network namespace; `None` on the host's network.
    pub fn netns_path(&self) -> Option<PathBuf> {
        (!self.inner.spec.host_network).then(|| self.inner.pod.namespace("net"))
    }

    /// All containers that were started and not yet removed.
    pub fn containers(&self) -> Vec<ContainerState> {
        self.inner.states()
    }

    /// One container.
    pub fn container(&self, container_id: &str) -> Option<ContainerState> {
        self.inner.container(container_id).map(|(state, _)| state)
    }

    /// What a container was made from, also after an adoption.
    pub fn container_spec(&self, container_id: &str) -> Option<Arc<ContainerSpec>> {
        self.inner.container(container_id).map(|(_, record)| record.spec.clone())
    }

    /// Creates a container and runs its process. Comes back when the process was executed.
    pub async fn start_container(&self, spec: ContainerSpec) -> Result<ContainerState, StartError> {
        start::start(&self.inner, spec).await
    }

    /// Signals a container's first process. No error when it has ended already.
    pub async fn signal(&self, container_id: &str, signal: Signal) -> Result<()> {
        let (state, _) = self.inner.require(container_id)?;
        if state.status != Status::Running {
            return Ok(());
        }
        let request = Request::Signal { id: container_id.to_owned(), signal: signal.0 };
        let inner = self.inner.clone();
        blocking(move || inner.shim.call(&request)).await
    }

    /// Kills every process of a container (SIGKILL).
    pub async fn kill(&self, container_id: &str) -> Result<()> {
        remove::kill(&self.inner, container_id).await
    }

    /// Waits until a container has ended.
    pub async fn wait(&self, container_id: &str) -> Result<ExitStatus> {
        self.inner.wait(container_id).await
    }

    /// Runs a process in a container.
    pub async fn exec(&self, container_id: &str, spec: ExecSpec) -> Result<ExecSession> {
        exec::exec(&self.inner, container_id, spec).await
    }

    /// Runs a command to its end and collects what it printed (16 MiB a stream at most). After
    /// `timeout` the command is killed and the error is [`Error::Timeout`]; zero is no limit.
    pub async fn exec_sync(
        &self,
        container_id: &str,
        argv: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutput> {
        exec::exec_sync(&self.inner, container_id, argv, timeout).await
    }

    /// Connects to the streams of a container's first process: its output from now on, and its
    /// stdin where the container has one and `stdin` is asked for.
    pub async fn attach(&self, container_id: &str, stdin: bool) -> Result<ExecSession> {
        exec::attach(&self.inner, container_id, stdin).await
    }

    /// Makes the shim open the container's log file anew, after somebody moved it.
    pub async fn reopen_log(&self, container_id: &str) -> Result<()> {
        self.inner.require(container_id)?;
        let request = Request::ReopenLog { id: container_id.to_owned() };
        let inner = self.inner.clone();
        blocking(move || inner.shim.call(&request)).await
    }

    /// Changes the limits of a running container. What is `None` stays as it is.
    pub async fn update_container(&self, container_id: &str, resources: Resources) -> Result<()> {
        self.inner.require(container_id)?;
        let path = self.inner.container_cgroup(container_id);
        let inner = self.inner.clone();
        blocking(move || inner.update_cgroup(&path, &resources)).await
    }

    /// Changes the limits of the pod.
    pub async fn update(&self, resources: Resources) -> Result<()> {
        let inner = self.inner.clone();
        blocking(move || inner.update_cgroup(&inner.spec.cgroup_parent, &resources)).await
    }

    /// Kills a container if it runs and removes all that is left of it but its log. Idempotent.
    pub async fn remove_container(&self, container_id: &str) -> Result<()> {
        remove::remove_container(&self.inner, container_id).await
    }

    /// Removes the containers, the shim, the namespaces and the pod's cgroup. Idempotent. The log
    /// folder stays. Network interfaces in the namespace must be torn down before.
    pub async fn remove(&self) -> Result<()> {
        remove::remove(&self.inner).await
    }

    /// Usage of the pod and of each running container.
    pub async fn stats(&self) -> Result<SandboxStats> {
        let inner = self.inner.clone();
        blocking(move || stats::stats(&inner)).await
    }
}

/// No such container.
fn unknown(container_id: &str) -> Error {
    Error::NotFound(format!("container {container_id:?} not found"))
}
