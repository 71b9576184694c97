//! A node as the scheduler sees it: what it has, and what its pods take up.

use std::sync::Arc;

use apimachinery::Object;
use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use placement::{ports::HostPort, requests::Amounts};

use crate::{
    pod::PodInfo,
    resources::{Requests, Resources},
};

/// A pod that is on a node, or nominated to one.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The pod.
    pub object: Arc<Object>,
    /// The node's name.
    pub node: Box<str>,
    /// `spec.priority`.
    pub priority: i32,
    /// `status.startTime`.
    pub started: Option<Time>,
    /// Whether it is on its way out because this scheduler made room for another.
    pub preempted: bool,
    /// What it asks for.
    pub requests: Requests,
    /// Ports that it takes on the node.
    pub ports: Vec<HostPort>,
}

impl Placed {
    /// `pod` on `node`.
    pub(crate) fn new(pod: &PodInfo, node: &str) -> Arc<Self> {
        let status = pod.pod.status.as_ref();
        Arc::new(Self {
            object: pod.object.clone(),
            node: node.into(),
            priority: pod.priority(),
            started: status.and_then(|status| status.start_time.clone()),
            preempted: pod.is_preempted(),
            requests: pod.requests.clone(),
            ports: pod.ports.clone(),
        })
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.object.uid
    }

    /// Orders pods by their start; who has not started yet comes last.
    pub fn start_order(&self) -> (bool, Option<&Time>) {
        (self.started.is_none(), self.started.as_ref())
    }
}

/// A node and what is left of it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// What pods may take up together.
    pub allocatable: Resources,
    /// What its pods take up, as stated; `pods` is their number.
    pub requested: Resources,
    /// What its pods take up for ranking.
    pub ranked: Resources,
    /// The pods that are there, or have been assigned by a decision not yet written.
    pub pods: Vec<Arc<Placed>>,
    /// The pods for which room is made; they are not counted above.
    pub nominated: Vec<Arc<Placed>>,
    /// Whether the node exists; pods can be known before their node.
    pub(crate) known: bool,
}

impl NodeInfo {
    /// The name of the node.
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    /// `spec.taints`.
    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// Counts a pod.
    pub fn add(&mut self, pod: Arc<Placed>) {
        self.requested.add(&pod.requests.stated);
        self.requested.pods += 1;
        self.ranked.add(&pod.requests.ranked);
        self.pods.push(pod);
    }

    /// Stops counting a pod.
    pub fn remove(&mut self, uid: &str) {
        let Some(at) = self.pods.iter().position(|pod| pod.uid() == uid) else { return };
        let pod = self.pods.remove(at);
        self.requested.subtract(&pod.requests.stated);
        self.requested.pods -= 1;
        self.ranked.subtract(&pod.requests.ranked);
    }

    /// Whether the pod is nominated to this node.
    pub fn awaits(&self, uid: &str) -> bool {
        self.nominated.iter().any(|pod| pod.uid() == uid)
    }

    /// Whether nothing is known of it but its name.
    pub(crate) fn is_forgotten(&self) -> bool {
        !self.known && self.pods.is_empty() && self.nominated.is_empty()
    }
}
