//! What can be configured, defined once: every option is a flag, an environment variable
//! (`KNARR_DATA_DIR`) and a key of the configuration file (`data-dir: ...`), in this order of
//! precedence. Where k3s has the option, it has k3s's name.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args, CommandFactory, Parser};
use serde_json::Value;

/// Where the configuration file is looked for unless `--config` names another.
pub(crate) const DEFAULT_FILE: &str = "/etc/knarr/config.yaml";

/// Options of every command that touches the state of a node.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeDirectories {
    /// Folder of all persistent state
    #[arg(long, global = true, env = "KNARR_DATA_DIR", default_value = "/var/lib/knarr")]
    pub data_dir: PathBuf,
    /// Folder of sockets and pinned namespaces; does not survive a reboot
    #[arg(long, global = true, env = "KNARR_RUN_DIR", default_value = "/run/knarr")]
    pub run_dir: PathBuf,
    /// Folder of the logs of pods, where collectors look for them; the links by container are in
    /// `containers` beside it
    #[arg(long, global = true, env = "KNARR_POD_LOGS_DIR", default_value = "/var/log/pods")]
    pub pod_logs_dir: PathBuf,
    /// Cgroup under which the tree of pods is made
    #[arg(long, global = true, env = "KNARR_CGROUP_ROOT", default_value = "/")]
    pub cgroup_root: String,
}

/// Options of `knarr server`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    #[command(flatten)]
    pub directories: NodeDirectories,
    /// Where the admin's kubeconfig is written
    #[arg(long, env = "KNARR_WRITE_KUBECONFIG", default_value = "/etc/knarr/kubeconfig.yaml")]
    pub write_kubeconfig: PathBuf,
    /// Mode of that file, octal
    #[arg(long, env = "KNARR_WRITE_KUBECONFIG_MODE", default_value = "0600", value_parser = octal)]
    pub write_kubeconfig_mode: u32,
    /// Further host names or addresses in the API server's certificate
    #[arg(long, env = "KNARR_TLS_SAN", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// Address that the API server listens on
    #[arg(long, env = "KNARR_BIND_ADDRESS", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port of the API server
    #[arg(long, env = "KNARR_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Addresses of pods
    #[arg(long, env = "KNARR_CLUSTER_CIDR", default_value = "10.42.0.0/16")]
    pub cluster_cidr: Cidr,
    /// Addresses of services
    #[arg(long, env = "KNARR_SERVICE_CIDR", default_value = "10.43.0.0/16")]
    pub service_cidr: Cidr,
    /// Ports of NodePort services
    #[arg(long, env = "KNARR_SERVICE_NODE_PORT_RANGE", default_value = "30000-32767")]
    pub service_node_port_range: PortRange,
    /// Address of cluster DNS [default: the tenth of the service addresses]
    #[arg(long, env = "KNARR_CLUSTER_DNS")]
    pub cluster_dns: Option<Ipv4Addr>,
    /// Domain of cluster DNS
    #[arg(long, env = "KNARR_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Parts to leave out
    #[arg(long, env = "KNARR_DISABLE", value_delimiter = ',')]
    pub disable: Vec<Part>,
    /// Run the control plane alone, without a node
    #[arg(long, env = "KNARR_DISABLE_AGENT", action = ArgAction::SetTrue)]
    pub disable_agent: bool,
    /// Name of this node [default: the host name]
    #[arg(long, env = "KNARR_NODE_NAME")]
    pub node_name: Option<String>,
    /// Labels that this node registers with
    #[arg(long, env = "KNARR_NODE_LABEL", value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Address of this node [default: the one of the default route]
    #[arg(long, env = "KNARR_NODE_IP")]
    pub node_ip: Option<Ipv4Addr>,
    /// Port of the node's own API, which serves logs and exec
    #[arg(long, env = "KNARR_KUBELET_PORT", default_value_t = 10250)]
    pub kubelet_port: u16,
    /// Port of Ingress over HTTP
    #[arg(long, env = "KNARR_INGRESS_HTTP_PORT", default_value_t = 80)]
    pub ingress_http_port: u16,
    /// Port of Ingress over HTTPS
    #[arg(long, env = "KNARR_INGRESS_HTTPS_PORT", default_value_t = 443)]
    pub ingress_https_port: u16,
    /// File of resolvers for names outside the cluster
    #[arg(long, env = "KNARR_RESOLV_CONF", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// File that configures image registries: mirrors, plain HTTP, credentials
    #[arg(long, env = "KNARR_PRIVATE_REGISTRY", default_value = "/etc/knarr/registries.yaml")]
    pub private_registry: PathBuf,
}

impl ServerOptions {
    /// The address of cluster DNS, given or the tenth service address.
    pub(crate) fn dns_address(&self) -> Ipv4Addr {
        self.cluster_dns.unwrap_or_else(|| self.service_cidr.nth(10))
    }

    /// Whether `part` is left out.
    pub(crate) fn disabled(&self, part: Part) -> bool {
        self.disable.contains(&part)
    }
}

/// A part of a server that can be left out, where something else does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Ingress
    Ingress,
    /// Cluster DNS
    Dns,
    /// Addresses for LoadBalancer services
    Servicelb,
    /// The scheduler
    Scheduler,
}

/// A block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    /// First address of the block.
    pub address: Ipv4Addr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// The address `at` places behind the first one.
    pub(crate) fn nth(self, at: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address).wrapping_add(at))
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an IPv4 block such as 10.42.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=30).contains(&prefix) {
            return Err(format!("the prefix of {text} must be between /8 and /30"));
        }
        let mask = u32::MAX << (32 - prefix);
        if u32::from(address) & !mask != 0 {
            let first = Ipv4Addr::from(u32::from(address) & mask);
            return Err(format!("{text} is not a whole block; did you mean {first}/{prefix}?"));
        }
        Ok(Self { address, prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// First and last of a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a range of ports such as 30000-32767");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let (first, last) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first == 0 || first > last { Err(wrong()) } else { Ok(Self { first, last }) }
    }
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} is not a file mode such as 0600"))
}

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file that `--config` names cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no YAML map.
    #[error("{path} is not a map of options: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file has a key that is no option.
    #[error("{path}: unknown option {key:?}{}", nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The option whose name is most like it.
        nearest: Option<String>,
    },
    /// A value that no option can take.
    #[error("{path}: {key} must be a text, a number, a boolean or a list of them")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// Adds what the configuration file says to the arguments of `subcommand`, unless the command line
/// or the environment says it already. `arguments` begin with the program's name.
pub(crate) fn with_file<P: Parser + CommandFactory>(
    subcommand: &str,
    mut arguments: Vec<OsString>,
) -> Result<Vec<OsString>, ConfigError> {
    let text: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let named = value_of(&text, "config").or_else(|| std::env::var("KNARR_CONFIG").ok());
    let path = named.as_deref().map_or(Path::new(DEFAULT_FILE), Path::new).to_owned();
    let content = match std::fs::read_to_string(&path) {
        Ok(content) => content,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(arguments);
        }
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let program = P::command();
    let Some(command) = program.find_subcommand(subcommand) else { return Ok(arguments) };
    // The file is the server's; other commands take what concerns them, too.
    let server = program.find_subcommand("server").unwrap_or(command);
    arguments.extend(from_file(command, server, &path, &content, &text)?);
    Ok(arguments)
}

fn from_file(
    command: &clap::Command,
    server: &clap::Command,
    path: &Path,
    content: &str,
    given: &[String],
) -> Result<Vec<OsString>, ConfigError> {
    if content.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let malformed = |why: String| ConfigError::Malformed { path: path.to_owned(), why };
    let file: Value =
        serde_saphyr::from_str(content).map_err(|error| malformed(error.to_string()))?;
    let options =
        file.as_object().ok_or_else(|| malformed("it holds something else".to_owned()))?;
    let mut arguments = Vec::new();
    for (key, value) in options {
        let named = |command: &'_ clap::Command| {
            command.get_arguments().find(|a| a.get_long() == Some(key)).cloned()
        };
        let Some(argument) = named(command) else {
            if named(server).is_some() {
                continue;
            }
            return Err(ConfigError::Unknown {
                path: path.to_owned(),
                key: key.clone(),
                nearest: nearest(server, key),
            });
        };
        let in_environment =
            argument.get_env().is_some_and(|name| std::env::var_os(name).is_some());
        if in_environment || value_of(given, key).is_some() || flag_of(given, key) {
            continue;
        }
        let values: &[Value] = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(false) => continue,
                Value::Bool(true) => {
                    arguments.push(format!("--{key}").into());
                    continue;
                }
                _ => return Err(ConfigError::Value { path: path.to_owned(), key: key.clone() }),
            };
            arguments.push(format!("--{key}={text}").into());
        }
    }
    Ok(arguments)
}

fn value_of(arguments: &[String], key: &str) -> Option<String> {
    let flag = format!("--{key}");
    arguments.iter().enumerate().find_map(|(at, argument)| {
        let rest = argument.strip_prefix(&flag)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if rest.is_empty() => arguments.get(at + 1).cloned(),
            None => None,
        }
    })
}

fn flag_of(arguments: &[String], key: &str) -> bool {
    arguments.iter().any(|argument| argument.strip_prefix("--") == Some(key))
}

fn nearest(command: &clap::Command, key: &str) -> Option<String> {
    command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .map(|known| (strsim::jaro_winkler(known, key), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Server {
        #[command(flatten)]
        options: ServerOptions,
    }

    fn read(content: &str, given: &[&str]) -> Result<ServerOptions, String> {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        let server = Server::command();
        let more = from_file(&server, &server, Path::new("config.yaml"), content, &given)
            .map_err(|error| error.to_string())?;
        let all = ["knarr".to_owned()].into_iter().chain(given).map(OsString::from).chain(more);
        Server::try_parse_from(all).map(|s| s.options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_sets_what_the_command_line_does_not() {
        let file = "https-listen-port: 7000\ncluster-domain: home.arpa\ntls-san: [a, b]\ndisable-agent: true\n";
        let options = read(file, &["--https-listen-port", "8000"]).unwrap();
        assert_eq!(options.https_listen_port, 8000);
        assert_eq!(options.cluster_domain, "home.arpa");
        assert_eq!(options.tls_san, ["a", "b"]);
        assert!(options.disable_agent);
    }

    #[test]
    fn other_commands_take_what_concerns_them() {
        #[derive(Parser)]
        struct Cleanup {
            #[command(flatten)]
            _directories: NodeDirectories,
        }
        let (cleanup, server) = (Cleanup::command(), Server::command());
        let read = |text| from_file(&cleanup, &server, Path::new("config.yaml"), text, &[]);
        let more = read("https-listen-port: 7000\ndata-dir: /data\n").unwrap();
        assert_eq!(more, ["--data-dir=/data"]);
        assert!(read("date-dir: /data\n").is_err());
    }

    #[test]
    fn an_unknown_key_names_the_nearest_option() {
        let error = read("cluster-cdir: 10.0.0.0/16", &[]).unwrap_err();
        assert_eq!(
            error,
            "config.yaml: unknown option \"cluster-cdir\"; did you mean \"cluster-cidr\"?"
        );
    }

    #[test]
    fn values_that_make_no_sense_are_refused_in_words() {
        let error = read("cluster-cidr: 10.42.1.0/16", &[]).unwrap_err();
        assert!(error.contains("did you mean 10.42.0.0/16?"), "{error}");
        let error = read("- a list", &[]).unwrap_err();
        assert!(error.contains("not a map of options"), "{error}");
        assert!(read("service-node-port-range: 9-1", &[]).is_err());
    }

    #[test]
    fn dns_takes_the_tenth_service_address() {
        let options = read("# nothing\n", &["--service-cidr=10.96.0.0/12"]).unwrap();
        assert_eq!(options.dns_address(), Ipv4Addr::new(10, 96, 0, 10));
    }
}
