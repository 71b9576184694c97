//! What all parts of one kubelet share.

use std::{net::IpAddr, sync::Arc};

use client::{Client, Informer, events::Recorder};
use jiff::Timestamp;
use runtime::Runtime;
use tokio::sync::Semaphore;

use crate::{
    config::KubeletConfig,
    env::Facts,
    images::Images,
    network::PodNetwork,
    node::machine::Machine,
    objects::Objects,
    pods::admission::Ledger,
    volumes::{Folders, certificates::Certificates, tokens::Tokens, trust_bundles::TrustBundles},
};

/// The parts of one kubelet that do not change while it runs.
pub(crate) struct Shared {
    pub(crate) config: KubeletConfig,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) runtime: Runtime,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) objects: Objects,
    pub(crate) tokens: Tokens,
    pub(crate) certificates: Certificates,
    pub(crate) trust_bundles: TrustBundles,
    pub(crate) images: Images,
    pub(crate) folders: Folders,
    /// All services.
    pub(crate) services: Informer,
    /// This node's own object.
    pub(crate) node: Informer,
    /// All runtime classes.
    pub(crate) runtime_classes: Informer,
    pub(crate) machine: Machine,
    pub(crate) ledger: Ledger,
    /// Pods that may be set up at the same time; more only take turns on the same processors.
    pub(crate) starts: Semaphore,
    /// When this kubelet began.
    pub(crate) began: Timestamp,
}

impl Shared {
    /// What the downward API knows beyond a pod with these addresses.
    pub(crate) fn facts<'a>(&'a self, pod_ips: &'a [IpAddr]) -> Facts<'a> {
        let allocatable = |name: &str| self.machine.allocatable.get(name);
        Facts {
            pod_ips,
            host_ips: &self.config.node_ips,
            allocatable_cpu: allocatable("cpu").map_or(0, |q| q.milli_value()),
            allocatable_memory: allocatable("memory").map_or(0, |q| q.value()),
            allocatable_storage: allocatable("ephemeral-storage").map_or(0, |q| q.value()),
        }
    }
}
