//! What the kubelet asks of the pod network.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

/// A port of the node that leads to a port of a pod (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Port on the node.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Address of the node to listen on, all of them when absent.
    pub host_ip: Option<IpAddr>,
}

/// A pod to be connected.
#[derive(Clone, Debug)]
pub struct PodAttachment {
    /// The pod's uid, the key of the attachment.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The pinned network namespace.
    pub netns: PathBuf,
    /// Ports of the node that lead here.
    pub host_ports: Vec<HostPort>,
}

/// Why a pod could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// The pod network of this node.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Why pods cannot be connected now, if they cannot: the node is not ready then.
    fn not_ready(&self) -> Option<String>;

    /// Connects a pod and answers its addresses, at most one a family, the primary one first.
    /// Answers the same addresses when the pod is connected already, and opens its host ports.
    async fn attach(&self, pod: &PodAttachment) -> Result<Vec<IpAddr>, NetworkError>;

    /// The addresses of a pod that is connected, also after a restart of the agent.
    fn addresses(&self, uid: &str) -> Option<Vec<IpAddr>>;

    /// Disconnects a pod and frees its addresses. Called before its network namespace is removed;
    /// no error when it is not connected.
    async fn detach(&self, uid: &str, netns: &Path) -> Result<(), NetworkError>;
}
