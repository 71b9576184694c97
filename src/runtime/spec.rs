//! What the node agent asks for: sandboxes, containers, mounts and the security settings of both.
//!
//! Everything here is plain data that is also written to disk beside the pod, so that a restarted
//! agent knows what it adopted.

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use linux::cgroup::Resources;
use serde::{Deserialize, Serialize};

/// Limits of a whole pod, applied to the pod's cgroup.
pub type PodResources = Resources;

/// A pod sandbox: the namespaces, cgroup and shim that the containers of one pod share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// The pod's uid, the key of the sandbox.
    pub pod_uid: String,
    /// `metadata.name` of the pod.
    pub pod_name: String,
    /// `metadata.namespace` of the pod.
    pub pod_namespace: String,
    /// Host name in the pod's UTS namespace; unused with `host_network`.
    pub hostname: String,
    /// Labels kept with the sandbox, for whoever lists it.
    pub labels: BTreeMap<String, String>,
    /// Annotations kept with the sandbox, for whoever lists it.
    pub annotations: BTreeMap<String, String>,
    /// Folder of the pod's container logs; created when missing.
    pub log_dir: PathBuf,
    /// The pod's cgroup below the runtime's cgroup root, e.g. `/kubepods/burstable/pod<uid>`.
    pub cgroup_parent: String,
    /// Limits of the pod's cgroup.
    pub resources: PodResources,
    /// Use the host's network (and UTS) namespace.
    pub host_network: bool,
    /// Use the host's process namespace.
    pub host_pid: bool,
    /// Use the host's IPC namespace.
    pub host_ipc: bool,
    /// One process namespace for all containers of the pod.
    pub share_process_namespace: bool,
    /// `securityContext.sysctls`: dotted name to value.
    pub sysctls: BTreeMap<String, String>,
}

/// One container, with every decision already made by the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Unique id; names the container's cgroup and folders.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// How often the container was restarted before this instance.
    pub attempt: u32,
    /// Id (`sha256:…`) of an image in the store.
    pub image: String,
    /// The resolved command line, see [`crate::resolve_argv`].
    pub argv: Vec<String>,
    /// Environment, `NAME=value`, in order; later entries win. `PATH` and `HOME` are added where
    /// missing.
    pub env: Vec<String>,
    /// Working directory; `/` when empty. Created when missing.
    pub working_dir: String,
    /// Who the process runs as.
    pub user: UserSpec,
    /// Mounts in the order in which they are made (parents before children).
    pub mounts: Vec<Mount>,
    /// Device nodes of the host to hand in.
    pub devices: Vec<Device>,
    /// All capabilities, all devices, no masked paths, no seccomp.
    pub privileged: bool,
    /// `securityContext.capabilities`.
    pub capabilities: Capabilities,
    /// Mount the root filesystem read-only.
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privs: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// A profile that AppArmor has loaded on this machine (`Localhost`); `None` leaves it alone.
    pub apparmor: Option<String>,
    /// Id of a running container of this sandbox whose processes this one is to see, as an
    /// ephemeral container with `targetContainerName` is.
    pub process_namespace_of: Option<String>,
    /// Paths hidden in the container; `None` is the default set, an empty list hides nothing
    /// (`procMount: Unmasked`).
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only in the container; `None` is the default set.
    pub readonly_paths: Option<Vec<String>>,
    /// Limits of the container's cgroup.
    pub resources: Resources,
    /// `/proc/self/oom_score_adj`; clamped when the agent may not lower it.
    pub oom_score_adj: i32,
    /// Resource limits of the process; clamped when the agent may not raise them.
    pub rlimits: Vec<Rlimit>,
    /// Give the process a terminal; stdout and stderr are one then.
    pub tty: bool,
    /// Keep stdin open for attached clients.
    pub stdin: bool,
    /// Close stdin when the first attached client closes its own.
    pub stdin_once: bool,
    /// Log file in the CRI format; `None` discards the output.
    pub log_path: Option<PathBuf>,
    /// When the log is rotated.
    pub log_limits: LogLimits,
    /// Signal that asks the process to stop; empty is SIGTERM.
    pub stop_signal: String,
    /// Kept with the container, for whoever lists it.
    pub labels: BTreeMap<String, String>,
    /// Kept with the container, for whoever lists it.
    pub annotations: BTreeMap<String, String>,
}

/// Who a process runs as, before names are looked up in the image.
///
/// As the kubelet and containerd do it: `uid` wins over `username`; without `gid` the group is the
/// one that the image's `/etc/passwd` gives the user, else 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserSpec {
    /// `runAsUser`.
    pub uid: Option<u32>,
    /// `runAsGroup`.
    pub gid: Option<u32>,
    /// The image's `User`: `name`, `uid`, `name:group` or `uid:gid`; used when `uid` is `None`.
    pub username: String,
    /// `supplementalGroups`.
    pub supplementary_groups: Vec<u32>,
    /// `fsGroup`, one more supplementary group.
    pub fs_group: Option<u32>,
    /// `supplementalGroupsPolicy: Strict`: leave out the groups of the image's `/etc/group`.
    pub strict_groups: bool,
}

/// The identity of a container's first process after names were looked up (`status.user.linux`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary group among them.
    pub groups: Vec<u32>,
}

/// A host path, or a part of an image, mounted into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Path on the host; below the image's root when `image` is set.
    pub source: PathBuf,
    /// Image id of an image volume, always read-only.
    pub image: Option<String>,
    /// Path in the container; created when missing.
    pub destination: PathBuf,
    /// Read-only, this mount only.
    pub readonly: bool,
    /// Read-only with everything mounted below it.
    pub recursive_readonly: bool,
    /// How later mounts pass between host and container.
    pub propagation: Propagation,
}

/// Mount propagation of a volume mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Nothing passes (private).
    #[default]
    None,
    /// Mounts made on the host appear in the container (slave).
    HostToContainer,
    /// Both ways (shared); the source must be on a shared mount.
    Bidirectional,
}

/// A device node of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Capabilities added to and dropped from the default set, with or without `CAP_`; `ALL` is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// `capabilities.add`.
    pub add: Vec<String>,
    /// `capabilities.drop`.
    pub drop: Vec<String>,
}

/// The system call filter of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// No filter.
    #[default]
    Unconfined,
    /// The built-in profile, the one of containerd.
    RuntimeDefault,
    /// A profile in the format of the OCI runtime specification.
    Localhost(PathBuf),
}

/// A POSIX resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and so on.
    pub kind: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// When a container log is rotated, and how many files are kept, the live one among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// `containerLogMaxSize`, in bytes.
    pub max_size: u64,
    /// `containerLogMaxFiles`.
    pub max_files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { max_size: 10 << 20, max_files: 5 }
    }
}

/// A process to run in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    /// Command line.
    pub argv: Vec<String>,
    /// Added to the container's own environment.
    pub env: Vec<String>,
    /// Run on a terminal; stdout carries everything then.
    pub tty: bool,
    /// Columns and rows of the terminal at the start.
    pub tty_size: Option<(u16, u16)>,
    /// Connect stdin; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Connect stdout.
    pub stdout: bool,
    /// Connect stderr.
    pub stderr: bool,
}
