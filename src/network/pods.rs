//! The pods of this node: addresses, connections and host ports together, for a kubelet.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cidr::Cidr;
use crate::hostports::HostPort;
use crate::ipam::{self, Ipam};
use crate::pod::{self, Attachment};
use crate::proxy::{self, Handle};

/// The interface's name in every pod.
const INTERFACE: &str = "eth0";

/// Why a pod could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// There is no address for it.
    #[error(transparent)]
    Address(#[from] ipam::Error),
    /// The kernel refused.
    #[error("connect pod {uid}: {source}")]
    Attach {
        /// The pod's uid.
        uid: String,
        /// Why.
        source: pod::Error,
    },
    /// The kernel refused.
    #[error("disconnect pod {uid}: {source}")]
    Detach {
        /// The pod's uid.
        uid: String,
        /// Why.
        source: netlink::Error,
    },
    /// Its host ports could not be opened or closed.
    #[error(transparent)]
    HostPorts(#[from] proxy::Error),
    /// What the kernel has of earlier pods could not be read.
    #[error("read the pods that are connected: {0}")]
    Adopt(#[source] netlink::Error),
    /// The process is ending.
    #[error("the runtime is shutting down")]
    Stopped,
}

/// A pod to be connected.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Its network namespace: a bind mount.
    pub netns: PathBuf,
    /// Ports of the node that lead to it.
    pub host_ports: Vec<HostPort>,
    /// Settings (sysctls) of its network namespace by name.
    pub settings: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Connected {
    address: Option<Ipv4Addr>,
    host_ports: Vec<HostPort>,
}

struct State {
    ipam: Ipam,
    pods: HashMap<String, Connected>,
}

/// The pod network of this node.
#[derive(Clone)]
pub struct PodNetwork {
    node: Cidr,
    mtu: u32,
    proxy: Handle,
    state: Arc<Mutex<State>>,
}

impl PodNetwork {
    /// The pod network of the node whose pods are in `node`, with the pods that are connected
    /// already, as the kernel has them. Their host ports are not known yet: a host port opens when
    /// [`Self::attach`] is called for its pod, also if that is connected.
    pub fn adopt(node: Cidr, mtu: u32, proxy: Handle) -> Result<Self, PodNetworkError> {
        let connected = pod::attached().map_err(PodNetworkError::Adopt)?;
        let in_use: Vec<Ipv4Addr> = connected.iter().filter_map(|p| p.address).collect();
        let pods = connected
            .into_iter()
            .map(|p| (p.uid, Connected { address: p.address, host_ports: Vec::new() }));
        let state = State { ipam: Ipam::new(node, in_use), pods: pods.collect() };
        Ok(Self { node, mtu, proxy, state: Arc::new(Mutex::new(state)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a pod and returns its address. If it is connected already nothing but its host
    /// ports changes; if its namespace is a new one it is connected again with the same address.
    /// Calls for one pod have to come one after the other.
    pub async fn attach(&self, pod: Pod) -> Result<Ipv4Addr, PodNetworkError> {
        let known = self.address(&pod.uid);
        let address = match known {
            Some(address) => address,
            None => self.state().ipam.allocate()?,
        };
        let (uid, host_ports) = (pod.uid.clone(), pod.host_ports.clone());
        let network = self.clone();
        let connect = move || network.connect(&pod, address, known.is_some());
        let connected = tokio::task::spawn_blocking(connect).await;
        if let Err(source) = connected.map_err(|_| PodNetworkError::Stopped)? {
            let mut state = self.state();
            state.pods.remove(&uid);
            state.ipam.release(address);
            return Err(PodNetworkError::Attach { uid, source });
        }
        self.open_host_ports(&uid, address, host_ports).await?;
        Ok(address)
    }

    fn connect(&self, pod: &Pod, address: Ipv4Addr, known: bool) -> Result<(), pod::Error> {
        if known && pod::is_attached(&pod.netns, INTERFACE, address)? {
            return Ok(());
        }
        pod::attach(&Attachment {
            uid: &pod.uid,
            title: &format!("{}/{}", pod.namespace, pod.name),
            netns: &pod.netns,
            interface: INTERFACE,
            address,
            host_address: self.node.gateway(),
            mtu: self.mtu,
            settings: &pod.settings,
        })
    }

    async fn open_host_ports(
        &self,
        uid: &str,
        address: Ipv4Addr,
        host_ports: Vec<HostPort>,
    ) -> Result<(), PodNetworkError> {
        let new = Connected { address: Some(address), host_ports: host_ports.clone() };
        let old = self.state().pods.insert(uid.to_owned(), new).unwrap_or_default();
        let closed = old.host_ports.iter().filter(|port| !host_ports.contains(port));
        let closed = closed.map(|port| port.close(uid));
        let changes: Vec<_> =
            closed.chain(host_ports.iter().map(|port| port.open(uid, address))).collect();
        if changes.is_empty() { Ok(()) } else { Ok(self.proxy.apply(changes).await?) }
    }

    /// The address of a pod, if it is connected.
    pub fn address(&self, uid: &str) -> Option<Ipv4Addr> {
        self.state().pods.get(uid).and_then(|pod| pod.address)
    }

    /// The uids of all pods that are connected.
    pub fn connected(&self) -> Vec<String> {
        self.state().pods.keys().cloned().collect()
    }

    /// Disconnects a pod and frees its address. To be called before its network namespace is
    /// removed, with which the veth pair goes. No error if it is not connected.
    pub async fn detach(&self, uid: &str) -> Result<(), PodNetworkError> {
        let Some(Connected { address, host_ports }) = self.state().pods.remove(uid) else {
            return Ok(());
        };
        let result = self.disconnect(uid, address, &host_ports).await;
        let mut state = self.state();
        match (&result, address) {
            (Ok(()), Some(address)) => state.ipam.release(address),
            (Ok(()), None) => (),
            // To be tried again.
            (Err(_), _) => drop(state.pods.insert(uid.into(), Connected { address, host_ports })),
        }
        result
    }

    async fn disconnect(
        &self,
        uid: &str,
        address: Option<Ipv4Addr>,
        host_ports: &[HostPort],
    ) -> Result<(), PodNetworkError> {
        if !host_ports.is_empty() {
            self.proxy.apply(host_ports.iter().map(|port| port.close(uid)).collect()).await?;
        }
        let owned = uid.to_owned();
        let disconnect = move || match address {
            Some(address) => pod::disconnect(&owned, address),
            // Its route is gone, so an earlier process was cut off at this.
            None => pod::detach(&owned, None),
        };
        let result = tokio::task::spawn_blocking(disconnect).await;
        let result = result.map_err(|_| PodNetworkError::Stopped)?;
        result.map_err(|source| PodNetworkError::Detach { uid: uid.to_owned(), source })
    }
}
