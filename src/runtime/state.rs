//! What the runtime reports: states of containers, exit statuses, events and usage.

use std::time::SystemTime;

pub use linux::cgroup::Stats as CgroupStats;
use serde::{Deserialize, Serialize};

use crate::spec::ResolvedUser;

/// A container as its shim knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Id of the container.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// Restart count of this instance.
    pub attempt: u32,
    /// Process id of the container's first process on the host.
    pub pid: i32,
    /// Image id.
    pub image: String,
    /// When the process was started.
    pub started_at: SystemTime,
    /// The identity that the process started with.
    pub user: ResolvedUser,
    /// Running or exited.
    pub status: Status,
}

/// Whether a container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The first process is alive.
    Running,
    /// The first process has ended.
    Exited(ExitStatus),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code; 128 + signal for a process that was killed, 137 when the shim was lost.
    pub code: i32,
    /// The signal that ended the process, 0 for none.
    pub signal: i32,
    /// The kernel's OOM killer was at work in the container's cgroup.
    pub oom_killed: bool,
    /// When the process was started.
    pub started_at: SystemTime,
    /// When the end was noticed.
    pub finished_at: SystemTime,
    /// Why the end is not an ordinary one, e.g. that the shim was lost.
    pub message: String,
}

/// Something that happened by itself. Delivered once; states can be read at any time besides.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RuntimeEvent {
    /// A container's first process ended.
    ContainerExited {
        /// Pod of the container.
        pod_uid: String,
        /// The container.
        container_id: String,
        /// How it ended.
        exit: ExitStatus,
    },
    /// The shim of a pod is gone. Its containers were killed, and each was reported as exited.
    ShimLost {
        /// The pod.
        pod_uid: String,
    },
}

/// Resource usage of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerStats {
    /// Id of the container.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// CPU, memory and processes.
    pub cgroup: CgroupStats,
    /// Usage of the container's writable layer.
    pub writable_layer: DiskUsage,
}

/// Resource usage of a sandbox and its containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxStats {
    /// The whole pod's cgroup.
    pub cgroup: CgroupStats,
    /// Each container that runs.
    pub containers: Vec<ContainerStats>,
}

/// Disk space of a folder or of a filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes used.
    pub bytes: u64,
    /// Inodes used.
    pub inodes: u64,
}
