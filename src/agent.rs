//! What a node is made of: runtime, kubelet, pod network, service proxy and edge.

use std::net::IpAddr;

use client::Client;
use pki::cluster::ClusterPki;

use crate::config::ServerOptions;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {}

/// A running node.
pub(crate) struct Agent {}

impl Agent {
    /// Starts all parts of the node.
    pub(crate) async fn start(
        _options: &ServerOptions,
        _pki: &ClusterPki,
        _client: Client,
    ) -> Result<Self, AgentError> {
        Ok(Self {})
    }

    /// Stops the parts; pods go on running.
    pub(crate) async fn stop(self) {}
}

/// The name of this node: given, or the host name in lower case, as names of objects must be.
pub(crate) fn node_name(options: &ServerOptions) -> String {
    options.node_name.clone().unwrap_or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_lowercase()
    })
}

/// The address of this node: given, or loopback on a machine without a network.
pub(crate) fn node_ip(options: &ServerOptions) -> IpAddr {
    options.node_ip.map_or(IpAddr::from([127, 0, 0, 1]), IpAddr::from)
}
