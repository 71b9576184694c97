//! Images, layers, sandboxes, containers and the shim that owns them.
//!
//! [`Runtime`] is the node agent's handle. Each pod has a [`Sandbox`]: pinned namespaces, a cgroup
//! and one shim process that owns the pod's containers and outlives the agent.

mod argv;
mod config;
mod error;
mod exec;
mod image;
pub mod init;
mod layout;
mod program;
mod sandbox;
mod security;
pub mod shim;
mod shim_client;
mod spec;
mod state;
mod sync;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use linux::cgroup::Cgroups;
use linux::fs::FsUsage;
use tokio::sync::mpsc;

use layout::Layout;
use sandbox::Shared;
use sync::{blocking, lock};

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

/// Events that may wait for whoever listens.
const EVENTS: usize = 1024;

/// The container runtime of a node. A cheap handle.
#[derive(Clone, Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
}

impl Runtime {
    /// Opens the runtime: adopts the shims that run, ends what lost its shim, removes what an
    /// interrupted predecessor left half done. What happened meanwhile shows in the states of the
    /// adopted containers. Must be called within a tokio runtime.
    pub async fn open(config: RuntimeConfig) -> Result<(Runtime, mpsc::Receiver<RuntimeEvent>)> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let shared = blocking(move || {
            let layout = prepare(&config)?;
            program::provide(&config.shim, &layout.program())?;
            let cgroups = cgroups(&config)?;
            let images = ImageStore::open(layout.clone(), config.registries)?;
            Ok(shared(layout, cgroups, images, events))
        })
        .await?;
        sandbox::adopt_all(&shared).await?;
        Ok((Runtime { shared }, receiver))
    }

    /// The image store alone, for commands beside a node that runs or does not.
    pub async fn image_store(config: &RuntimeConfig) -> Result<ImageStore> {
        let config = config.clone();
        blocking(move || {
            let layout = prepare(&config)?;
            ImageStore::open(layout, config.registries)
        })
        .await
    }

    /// The image store.
    pub fn images(&self) -> &ImageStore {
        &self.shared.images
    }

    /// The node's cgroups, for those above the pods.
    pub fn cgroups(&self) -> &Cgroups {
        &self.shared.cgroups
    }

    /// Size and fill of the filesystem that holds images and writable layers.
    pub async fn filesystem(&self) -> Result<FsUsage> {
        use error::Context;
        let path = self.shared.layout.data.clone();
        blocking(move || linux::fs::usage(&path).at("statvfs", &path)).await
    }

    /// Makes a sandbox. One that exists with the same pod uid is answered as it is.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox> {
        sandbox::create(&self.shared, spec).await
    }

    /// All sandboxes, adopted ones among them.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        lock(&self.shared.sandboxes).values().cloned().collect()
    }

    /// The sandbox of a pod.
    pub fn sandbox(&self, pod_uid: &str) -> Option<Sandbox> {
        lock(&self.shared.sandboxes).get(pod_uid).cloned()
    }

    /// Stops everything and removes all that a runtime with this configuration left: processes,
    /// mounts, cgroups, `run_dir`, and with `images` also the image store.
    pub async fn cleanup(config: &RuntimeConfig, images: bool) -> Result<()> {
        let config = config.clone();
        blocking(move || {
            let layout = Layout { run: config.run_dir.clone(), data: config.data_dir.clone() };
            // The store is opened only to be had; without it there is nothing to remove in it.
            let store = ImageStore::open(layout.clone(), RegistryConfig::default())?;
            let (events, _) = mpsc::channel(1);
            let shared = shared(layout.clone(), cgroups(&config)?, store, events);
            sandbox::clean_up(&shared)?;
            program::withdraw(&layout.program())?;
            remove_folder(&layout.run)?;
            remove_folder(&layout.containers())?;
            if images {
                remove_folder(&layout.layers())?;
                remove_folder(&layout.images())?;
            }
            Ok(())
        })
        .await
    }
}

fn cgroups(config: &RuntimeConfig) -> Result<Cgroups> {
    use error::Context;
    match &config.cgroup_v2 {
        Some(mount) => Ok(Cgroups::v2_at(mount, &config.cgroup_root)),
        None => Cgroups::detect(&config.cgroup_root).context(|| "find cgroups".to_owned()),
    }
}

fn shared(
    layout: Layout,
    cgroups: Cgroups,
    images: ImageStore,
    events: mpsc::Sender<RuntimeEvent>,
) -> Arc<Shared> {
    let sandboxes = Mutex::new(BTreeMap::new());
    Arc::new(Shared { layout, cgroups, images, events, sandboxes })
}

/// Makes the folders, closed to everybody else.
fn prepare(config: &RuntimeConfig) -> Result<Layout> {
    use error::Context;
    use std::os::unix::fs::PermissionsExt;
    let absolute = |path: &std::path::Path| std::path::absolute(path).at("find", path);
    let layout = Layout { run: absolute(&config.run_dir)?, data: absolute(&config.data_dir)? };
    for dir in [layout.pods(), layout.mount_point(), layout.data.clone()] {
        std::fs::create_dir_all(&dir).at("create", &dir)?;
    }
    let pods = layout.pods();
    std::fs::set_permissions(&pods, PermissionsExt::from_mode(0o700)).at("close", &pods)?;
    Ok(layout)
}

fn remove_folder(path: &std::path::Path) -> Result<()> {
    use error::Context;
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}
