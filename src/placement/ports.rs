//! Ports of a node that pods take for themselves.

use k8s_openapi::api::core::v1::PodSpec;

use crate::is_sidecar;

const EVERY_ADDRESS: &str = "0.0.0.0";

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Address, `0.0.0.0` for all of them.
    pub address: String,
    /// Port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let everywhere = |port: &Self| port.address == EVERY_ADDRESS;
        self.port == other.port
            && self.protocol == other.protocol
            && (everywhere(self) || everywhere(other) || self.address == other.address)
    }
}

/// The ports that a pod takes: those of its containers and sidecars. Other init containers are over
/// before they could be in anyone's way.
pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|one| is_sidecar(one));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let address = port.host_ip.clone().filter(|address| !address.is_empty());
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                address: address.unwrap_or_else(|| EVERY_ADDRESS.to_owned()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(protocol: &str, address: &str, port: i32) -> HostPort {
        HostPort { protocol: protocol.to_owned(), address: address.to_owned(), port }
    }

    #[test]
    fn ports_conflict_by_number_protocol_and_address() {
        let tcp = port("TCP", "0.0.0.0", 80);
        assert!(tcp.conflicts(&port("TCP", "10.0.0.1", 80)));
        assert!(port("TCP", "10.0.0.1", 80).conflicts(&tcp));
        assert!(!tcp.conflicts(&port("UDP", "0.0.0.0", 80)));
        assert!(!tcp.conflicts(&port("TCP", "0.0.0.0", 81)));
        assert!(!port("TCP", "10.0.0.1", 80).conflicts(&port("TCP", "10.0.0.2", 80)));
    }

    #[test]
    fn containers_and_sidecars_take_ports() {
        let container = |port: i32, policy: Option<&str>| {
            let ports = json!([{"containerPort": 1, "hostPort": port}, {"containerPort": 2}]);
            json!({"name": "c", "restartPolicy": policy, "ports": ports})
        };
        let spec = json!({
            "containers": [container(80, None)],
            "initContainers": [container(81, None), container(82, Some("Always"))],
        });
        let taken = host_ports(&serde_json::from_value(spec).unwrap());
        assert_eq!(taken, [port("TCP", "0.0.0.0", 80), port("TCP", "0.0.0.0", 82)]);
    }
}
