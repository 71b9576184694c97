//! A pod with what scheduling asks of it worked out once.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::{DEFAULT_SCHEDULER, resources::Requests};

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
        let wild = |port: &Self| port.address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (wild(self) || wild(other) || self.address == other.address)
    }
}

/// A pod to be placed.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// The pod.
    pub pod: Pod,
    /// What it asks for.
    pub requests: Requests,
    /// Ports that it takes on its node.
    pub ports: Vec<HostPort>,
}

impl PodInfo {
    /// Works out what `pod` asks for.
    pub fn new(pod: Pod) -> Self {
        let (requests, ports) = match &pod.spec {
            Some(spec) => (Requests::of(spec), host_ports(spec)),
            None => Default::default(),
        };
        Self { pod, requests, ports }
    }

    /// The spec; the API refuses pods without one.
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The node that it is assigned to.
    pub fn node(&self) -> Option<&str> {
        self.spec()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// `spec.priority`.
    pub fn priority(&self) -> i32 {
        self.spec().and_then(|spec| spec.priority).unwrap_or(0)
    }

    /// Whether all its containers have ended for good, so that it takes up nothing.
    pub(crate) fn is_over(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Whether it asks for this scheduler, is not being deleted, and no gate holds it back
    /// (KEP-3521: the API server sets the condition of gated pods).
    pub(crate) fn is_ours(&self) -> bool {
        let Some(spec) = self.spec() else { return false };
        spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER) == DEFAULT_SCHEDULER
            && self.pod.metadata.deletion_timestamp.is_none()
            && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                address: port
                    .host_ip
                    .clone()
                    .filter(|address| !address.is_empty())
                    .unwrap_or_else(|| "0.0.0.0".to_owned()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}
