//! The settings of one node, named as in upstream's KubeletConfiguration where it has them.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Taint;

/// The identity under which the kubelet serves its API, and who may call it.
#[derive(Clone)]
pub struct ServingIdentity {
    /// Certificate chain in PEM, the node's own first.
    pub certificate: String,
    /// Private key in PEM.
    pub key: String,
    /// Certificate authorities in PEM whose clients are let in.
    pub client_ca: String,
}

impl std::fmt::Debug for ServingIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServingIdentity")
    }
}

/// When the node is short of something. Percentages are of the capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// `memory.available`, in bytes.
    pub memory_available: u64,
    /// `nodefs.available`, in percent.
    pub nodefs_available: f64,
    /// `nodefs.inodesFree`, in percent.
    pub nodefs_inodes_free: f64,
    /// `imagefs.available`, in percent.
    pub imagefs_available: f64,
    /// `pid.available`, in percent.
    pub pid_available: f64,
    /// How long a pressure condition stays after the shortage is over.
    pub pressure_transition_period: Duration,
}

impl Default for Eviction {
    fn default() -> Self {
        Self {
            memory_available: 100 << 20,
            nodefs_available: 10.0,
            nodefs_inodes_free: 5.0,
            imagefs_available: 15.0,
            pid_available: 0.0,
            pressure_transition_period: Duration::from_secs(300),
        }
    }
}

/// Configuration of a [`crate::Kubelet`].
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// Host name reported as address and in the label `kubernetes.io/hostname`.
    pub hostname: String,
    /// Addresses of the node, the primary one first, at most one a family.
    pub node_ips: Vec<IpAddr>,
    /// Labels set when the node registers, besides the standard ones.
    pub labels: BTreeMap<String, String>,
    /// Taints set when the node registers.
    pub taints: Vec<Taint>,
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// Folders of the pods (`pods/<uid>`) lie here.
    pub data_dir: PathBuf,
    /// Container logs: `<namespace>_<name>_<uid>/<container>/<n>.log`.
    pub log_dir: PathBuf,
    /// Localhost seccomp profiles.
    pub seccomp_dir: PathBuf,
    /// Manifests of static pods.
    pub static_pods: Option<PathBuf>,
    /// Addresses of the cluster DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster, e.g. `cluster.local`.
    pub cluster_domain: String,
    /// Base of the pods' resolv.conf; `None` cuts pods off from the host's resolvers.
    pub resolv_conf: Option<PathBuf>,
    /// TLS identity of the kubelet API; the API is not served without one.
    pub serving: Option<ServingIdentity>,
    /// Address the kubelet API listens on.
    pub address: IpAddr,
    /// Port of the kubelet API; 0 takes any.
    pub port: u16,
    /// Most pods on this node.
    pub max_pods: u32,
    /// Most processes in one pod; negative is unlimited.
    pub pod_pids_limit: i64,
    /// The cgroup below which `kubepods` lies; `/` by default.
    pub cgroup_root: String,
    /// Resources kept back for the system, as quantities: `cpu`, `memory`, `ephemeral-storage`.
    pub reserved: BTreeMap<String, String>,
    /// Sysctls (or prefixes ending in `*`) allowed besides the safe ones.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Use RuntimeDefault where a pod names no seccomp profile.
    pub seccomp_default: bool,
    /// Thresholds of node pressure.
    pub eviction: Eviction,
    /// Disk usage in percent above which unused images are removed.
    pub image_gc_high: u8,
    /// Disk usage in percent down to which unused images are removed.
    pub image_gc_low: u8,
    /// Images are kept this long at least.
    pub image_gc_min_age: Duration,
    /// Images unused for longer are removed; zero is never.
    pub image_gc_max_age: Duration,
    /// Images pulled at the same time.
    pub max_parallel_pulls: usize,
    /// Size at which a container's log is rotated.
    pub log_max_size: u64,
    /// Log files kept of one container instance.
    pub log_max_files: u32,
    /// The longest wait before a crashed container is started again.
    pub max_container_restart_period: Duration,
    /// Handlers that a RuntimeClass may name.
    pub runtime_handlers: Vec<String>,
    /// `nodeInfo.kubeletVersion`.
    pub version: String,
}

impl Default for KubeletConfig {
    fn default() -> Self {
        let data_dir = PathBuf::from("/var/lib/knarr/kubelet");
        Self {
            node_name: String::new(),
            hostname: String::new(),
            node_ips: Vec::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            provider_id: None,
            seccomp_dir: data_dir.join("seccomp"),
            data_dir,
            log_dir: PathBuf::from("/var/log/pods"),
            static_pods: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: Some(PathBuf::from("/etc/resolv.conf")),
            serving: None,
            address: IpAddr::from([0, 0, 0, 0]),
            port: 10250,
            max_pods: 110,
            pod_pids_limit: -1,
            cgroup_root: "/".to_owned(),
            reserved: BTreeMap::new(),
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_default: false,
            eviction: Eviction::default(),
            image_gc_high: 85,
            image_gc_low: 80,
            image_gc_min_age: Duration::from_secs(120),
            image_gc_max_age: Duration::ZERO,
            max_parallel_pulls: 4,
            log_max_size: 10 << 20,
            log_max_files: 5,
            max_container_restart_period: Duration::from_secs(300),
            runtime_handlers: vec!["knarr".to_owned(), "runc".to_owned()],
            version: "v1.37.2".to_owned(),
        }
    }
}
