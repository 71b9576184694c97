//! Images, layers, sandboxes, containers and the shim that owns them.
//!
//! [`Runtime`] is the node agent's handle. Each pod has a [`Sandbox`]: pinned namespaces, a cgroup
//! and one shim process that owns the pod's containers and outlives the agent.

mod argv;
mod config;
mod error;
mod exec;
mod image;
mod sandbox;
mod spec;
mod state;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use argv::resolve_argv;
pub use config::{Credential, RegistryConfig, RuntimeConfig};
pub use error::{Error, PullError, Result, StartError};
pub use exec::{ExecOutput, ExecSession, StreamReader, StreamWriter};
pub use image::{Image, ImageConfig, ImageStore, ImageUsage, ProgressFn, PullProgress};
pub use linux::signal::Signal;
pub use sandbox::Sandbox;
pub use spec::{
    Capabilities, ContainerSpec, Device, ExecSpec, LogLimits, Mount, PodResources, Propagation,
    ResolvedUser, Resources, Rlimit, SandboxSpec, Seccomp, UserSpec,
};
pub use state::{
    CgroupStats, ContainerState, ContainerStats, DiskUsage, ExitStatus, RuntimeEvent, SandboxStats,
    Status,
};

/// The container runtime of a node. A cheap handle.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    images: ImageStore,
}

impl Runtime {
    /// Opens the runtime: adopts the shims that run, reports what ended meanwhile, removes what an
    /// interrupted predecessor left half done.
    pub async fn open(config: RuntimeConfig) -> Result<(Runtime, mpsc::Receiver<RuntimeEvent>)> {
        let _ = config;
        let (_, events) = mpsc::channel(256);
        Ok((Runtime { inner: Arc::new(Inner { images: ImageStore {} }) }, events))
    }

    /// The image store.
    pub fn images(&self) -> &ImageStore {
        &self.inner.images
    }

    /// Makes a sandbox. One that exists with the same pod uid is answered as it is.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox> {
        Err(Error::Invalid(spec.pod_uid))
    }

    /// All sandboxes, adopted ones among them.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        Vec::new()
    }

    /// The sandbox of a pod.
    pub fn sandbox(&self, pod_uid: &str) -> Option<Sandbox> {
        let _ = pod_uid;
        None
    }

    /// Stops everything and removes all that a runtime with this configuration left: processes,
    /// mounts, cgroups, `run_dir`, and with `images` also the image store.
    pub async fn cleanup(config: &RuntimeConfig, images: bool) -> Result<()> {
        let _ = images;
        Err(Error::Invalid(format!("{}: cleanup is not there yet", config.run_dir.display())))
    }
}
