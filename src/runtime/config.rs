//! Where the runtime keeps things and which registries it talks to.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Configuration of a [`crate::Runtime`].
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Images, layers and the writable layers of containers. Must be able to be an overlayfs upper.
    pub data_dir: PathBuf,
    /// State that does not survive a reboot (a tmpfs): pinned namespaces, sockets, exit statuses.
    pub run_dir: PathBuf,
    /// The cgroup below which every pod's cgroup lies; `/` by default.
    pub cgroup_root: String,
    /// Use the v2 hierarchy mounted here, whatever else there is, instead of looking for the one
    /// with the controllers.
    pub cgroup_v2: Option<PathBuf>,
    /// The binary that is executed again as shim; it must call [`crate::shim::main`] for the
    /// argument `shim` and [`crate::init::main`] for `init`.
    pub shim: PathBuf,
    /// Registries.
    pub registries: RegistryConfig,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        RuntimeConfig {
            data_dir: PathBuf::from("/var/lib/knarr/agent"),
            run_dir: PathBuf::from("/run/knarr"),
            cgroup_root: "/".to_owned(),
            cgroup_v2: None,
            shim: std::fs::read_link("/proc/self/exe").unwrap_or_default(),
            registries: RegistryConfig::default(),
        }
    }
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// Registry host (`docker.io`, or `*` for all) to base addresses tried in order before the
    /// registry itself, e.g. `http://127.0.0.1:5000`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts (`host[:port]`) that speak plain HTTP. `localhost` and 127.0.0.0/8 always may.
    pub plain_http: Vec<String>,
    /// Hosts whose certificate is not verified.
    pub insecure: Vec<String>,
    /// Certificate authorities in PEM, per host, on top of the system's.
    pub ca: BTreeMap<String, String>,
    /// Credentials per host, used when a pull brings none.
    pub auth: BTreeMap<String, Credential>,
}

/// What a registry accepts as proof of identity.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// User name for basic authentication.
    pub username: String,
    /// Password for basic authentication.
    pub password: String,
    /// OAuth2 refresh token (`identitytoken` of a docker config).
    pub identity_token: String,
    /// Bearer token to send as it is (`registrytoken`).
    pub registry_token: String,
}

// Secrets stay out of logs and panics.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}
