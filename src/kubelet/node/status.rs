//! The Node object: what it says when it is made, and what its status says later.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
        NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus,
        NodeSwapStatus, NodeSystemInfo,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use runtime::Image;

use super::machine::Machine;
use crate::{config::KubeletConfig, pods::view::RUNTIME_NAME, podspec::seconds, resources::to_api};

/// Most images that the status names.
const MAX_IMAGES: usize = 50;
/// Most names of one image.
const MAX_NAMES: usize = 5;
/// Features of this node that not all nodes of this version have.
const DECLARED: [&str; 2] = ["InPlacePodVerticalScaling", "RestartAllContainersOnContainerExits"];

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pid: bool,
}

/// Everything that the status depends on.
pub(crate) struct Input<'a> {
    pub(crate) config: &'a KubeletConfig,
    pub(crate) machine: &'a Machine,
    pub(crate) images: Vec<Image>,
    pub(crate) pressure: Pressure,
    /// Why pods cannot run, if they cannot.
    pub(crate) not_ready: Vec<String>,
    /// Port of the kubelet API.
    pub(crate) port: Option<u16>,
    pub(crate) now: Timestamp,
}

/// A condition that changed, as events tell it.
pub(crate) struct Transition {
    pub(crate) reason: &'static str,
}

/// The node as it registers.
pub(crate) fn node(input: &Input<'_>) -> Node {
    let config = input.config;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let arch = input.machine.architecture;
    let mut labels = BTreeMap::from([
        label("kubernetes.io/hostname", &config.hostname),
        label("kubernetes.io/os", "linux"),
        label("kubernetes.io/arch", arch),
        label("beta.kubernetes.io/os", "linux"),
        label("beta.kubernetes.io/arch", arch),
    ]);
    labels.extend(config.labels.clone());
    let attach = "volumes.kubernetes.io/controller-managed-attach-detach".to_owned();
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(attach, "true".to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: config.provider_id.clone(),
            taints: Some(config.taints.clone()).filter(|taints| !taints.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status(input, &[]).0),
    }
}

/// The status, given the conditions that were reported last, and which of them changed.
pub(crate) fn status(input: &Input<'_>, before: &[NodeCondition]) -> (NodeStatus, Vec<Transition>) {
    let (config, machine) = (input.config, input.machine);
    let (conditions, transitions) = conditions(input, before);
    let mut addresses: Vec<NodeAddress> = config
        .node_ips
        .iter()
        .map(|ip| NodeAddress { type_: "InternalIP".to_owned(), address: ip.to_string() })
        .collect();
    addresses.push(NodeAddress { type_: "Hostname".to_owned(), address: config.hostname.clone() });
    let handler = |name: &str| NodeRuntimeHandler {
        name: Some(name.to_owned()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(true),
            user_namespaces: Some(false),
        }),
    };
    let mut handlers = vec![handler("")];
    handlers.extend(config.runtime_handlers.iter().map(|name| handler(name)));
    let status = NodeStatus {
        addresses: Some(addresses),
        capacity: Some(to_api(&machine.capacity)),
        allocatable: Some(to_api(&machine.allocatable)),
        conditions: Some(conditions),
        daemon_endpoints: input.port.map(|port| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!("{RUNTIME_NAME}://{}", env!("CARGO_PKG_VERSION")),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: config.version.clone(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            swap: (machine.swap > 0).then_some(NodeSwapStatus { capacity: Some(machine.swap) }),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        images: Some(images(&input.images)),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        runtime_handlers: Some(handlers),
        declared_features: Some(DECLARED.iter().map(|name| (*name).to_owned()).collect()),
        ..NodeStatus::default()
    };
    (status, transitions)
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut list: Vec<ContainerImage> = images
        .iter()
        .map(|image| {
            let mut names: Vec<String> =
                image.digests.iter().chain(&image.names).cloned().collect();
            names.truncate(MAX_NAMES);
            ContainerImage {
                names: Some(names),
                size_bytes: Some(i64::try_from(image.size).unwrap_or(i64::MAX)),
            }
        })
        .collect();
    list.sort_by(|a, b| (b.size_bytes, &a.names).cmp(&(a.size_bytes, &b.names)));
    list.truncate(MAX_IMAGES);
    list
}

struct Kind {
    name: &'static str,
    under_pressure: (&'static str, &'static str, &'static str),
    fine: (&'static str, &'static str, &'static str),
}

const PRESSURES: [Kind; 3] = [
    Kind {
        name: "MemoryPressure",
        under_pressure: (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "NodeHasInsufficientMemory",
        ),
        fine: (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
            "NodeHasSufficientMemory",
        ),
    },
    Kind {
        name: "DiskPressure",
        under_pressure: (
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "NodeHasDiskPressure",
        ),
        fine: ("KubeletHasNoDiskPressure", "kubelet has no disk pressure", "NodeHasNoDiskPressure"),
    },
    Kind {
        name: "PIDPressure",
        under_pressure: (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "NodeHasInsufficientPID",
        ),
        fine: (
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
            "NodeHasSufficientPID",
        ),
    },
];

fn conditions(
    input: &Input<'_>,
    before: &[NodeCondition],
) -> (Vec<NodeCondition>, Vec<Transition>) {
    let now: Time = seconds(input.now);
    let mut transitions = Vec::new();
    let mut list = Vec::new();
    let mut add = |name: &str, status: bool, reason: &str, message: String, event| {
        let status = if status { "True" } else { "False" };
        let old = before.iter().find(|c| c.type_ == name);
        let same = old.is_some_and(|old| old.status == status);
        let tells = old.is_some() || name != "Ready";
        if !same && tells {
            transitions.push(Transition { reason: event });
        }
        list.push(NodeCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: old
                .filter(|_| same)
                .and_then(|old| old.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
        });
    };
    let pressed = [input.pressure.memory, input.pressure.disk, input.pressure.pid];
    for (kind, pressed) in PRESSURES.iter().zip(pressed) {
        let (reason, message, event) = if pressed { kind.under_pressure } else { kind.fine };
        add(kind.name, pressed, reason, message.to_owned(), event);
    }
    if input.not_ready.is_empty() {
        let message = "kubelet is posting ready status".to_owned();
        add("Ready", true, "KubeletReady", message, "NodeReady");
    } else {
        let message = match input.not_ready.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        add("Ready", false, "KubeletNotReady", message, "NodeNotReady");
    }
    (list, transitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input<'a>(config: &'a KubeletConfig, machine: &'a Machine, not_ready: &[&str]) -> Input<'a> {
        Input {
            config,
            machine,
            images: Vec::new(),
            pressure: Pressure::default(),
            not_ready: not_ready.iter().map(|why| (*why).to_owned()).collect(),
            port: Some(10250),
            now: Timestamp::from_second(1000).unwrap(),
        }
    }

    #[test]
    fn conditions_keep_the_time_of_their_last_change() {
        let (config, machine) = (KubeletConfig::default(), Machine::default());
        let (first, told) = conditions(&input(&config, &machine, &["no network"]), &[]);
        let told: Vec<_> = told.iter().map(|t| t.reason).collect();
        assert_eq!(
            told,
            ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]
        );
        assert_eq!(first[3].reason.as_deref(), Some("KubeletNotReady"));
        let mut later = input(&config, &machine, &[]);
        later.now = Timestamp::from_second(2000).unwrap();
        let (second, told) = conditions(&later, &first);
        let told: Vec<_> = told.iter().map(|t| t.reason).collect();
        assert_eq!(told, ["NodeReady"]);
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_ne!(second[3].last_transition_time, first[3].last_transition_time);
        assert_ne!(second[0].last_heartbeat_time, first[0].last_heartbeat_time);
    }
}
