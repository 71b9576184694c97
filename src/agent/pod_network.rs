//! The pod network as the kubelet sees it: not there until the node has its addresses.

use std::{
    net::IpAddr,
    path::Path,
    sync::{OnceLock, PoisonError, RwLock},
};

use async_trait::async_trait;
use kubelet::{NetworkError, PodAttachment, PodNetwork};
use network::{Pod, hostports::HostPort, proxy::Protocol};

/// The pod network of this node.
#[derive(Default)]
pub(crate) struct NodeNetwork {
    pods: OnceLock<network::PodNetwork>,
    failure: RwLock<Option<String>>,
}

impl NodeNetwork {
    /// The network is there.
    pub(crate) fn connect(&self, pods: network::PodNetwork) {
        let _ = self.pods.set(pods);
    }

    /// The network could not be made.
    pub(crate) fn fail(&self, why: String) {
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn pods(&self) -> Result<&network::PodNetwork, NetworkError> {
        self.pods.get().ok_or_else(|| NetworkError(self.why()))
    }

    fn why(&self) -> String {
        let failure = self.failure.read().unwrap_or_else(PoisonError::into_inner);
        failure.clone().unwrap_or_else(|| "the node has no pod addresses yet".to_owned())
    }
}

#[async_trait]
impl PodNetwork for NodeNetwork {
    fn not_ready(&self) -> Option<String> {
        self.pods.get().is_none().then(|| self.why())
    }

    async fn attach(&self, pod: &PodAttachment) -> Result<Vec<IpAddr>, NetworkError> {
        let host_ports = pod.host_ports.iter().filter_map(host_port).collect();
        let pod = Pod {
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            netns: pod.netns.clone(),
            host_ports,
            settings: Vec::new(),
        };
        let attached = self.pods()?.attach(pod).await;
        attached.map(|address| vec![address.into()]).map_err(|e| NetworkError(e.to_string()))
    }

    fn addresses(&self, uid: &str) -> Option<Vec<IpAddr>> {
        Some(vec![self.pods.get()?.address(uid)?.into()])
    }

    async fn detach(&self, uid: &str, _netns: &Path) -> Result<(), NetworkError> {
        self.pods()?.detach(uid).await.map_err(|error| NetworkError(error.to_string()))
    }
}

fn host_port(port: &kubelet::HostPort) -> Option<HostPort> {
    let host_ip = match port.host_ip {
        Some(IpAddr::V4(address)) => Some(address),
        // There is no IPv6 on this network.
        Some(IpAddr::V6(address)) if !address.is_unspecified() => return None,
        _ => None,
    };
    let protocol = match port.protocol.as_str() {
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    let (host_port, container_port) = (port.host_port, port.container_port);
    Some(HostPort { protocol, host_ip, host_port, container_port })
}
