//! The scheduler's picture of the nodes: what each has, and what the pods on it take up.
//!
//! Pods are counted from the moment a node is chosen (assumed), before the API says so, so that
//! the next decision sees this one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Node;

use crate::{
    pod::{HostPort, PodInfo},
    resources::{Requests, Resources},
};

/// A node and what is left of it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// The node.
    pub node: Node,
    /// What pods may take up together.
    pub allocatable: Resources,
    /// What its pods take up, as stated; `pods` is their number.
    pub requested: Resources,
    /// What its pods take up for ranking.
    pub ranked: Resources,
    /// Ports that its pods hold, with the UID of the holder.
    pub ports: Vec<(Box<str>, HostPort)>,
    /// Whether the node exists; pods can be known before their node.
    known: bool,
}

impl NodeInfo {
    /// The name of the node.
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    fn add(&mut self, pod: &Placed) {
        self.requested.add(&pod.requests.stated);
        self.requested.pods += 1;
        self.ranked.add(&pod.requests.ranked);
        self.ports.extend(pod.ports.iter().map(|port| (pod.uid.clone(), port.clone())));
    }

    fn remove(&mut self, pod: &Placed) {
        self.requested.subtract(&pod.requests.stated);
        self.requested.pods -= 1;
        self.ranked.subtract(&pod.requests.ranked);
        self.ports.retain(|(uid, _)| *uid != pod.uid);
    }
}

/// What is remembered of a pod on a node.
struct Placed {
    uid: Box<str>,
    node: Box<str>,
    requests: Requests,
    ports: Vec<HostPort>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<Box<str>, Arc<NodeInfo>>,
    pods: HashMap<Box<str>, Placed>,
}

/// The picture. Changed by the informers, read by the scheduling task.
#[derive(Default)]
pub(crate) struct Cache {
    state: Mutex<State>,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a node; returns whether anything that matters to placing pods has changed.
    pub(crate) fn put_node(&self, node: Node) -> bool {
        let mut state = self.lock();
        let name: Box<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        let info = Arc::make_mut(state.nodes.entry(name).or_default());
        let allocatable =
            Resources::from_list(node.status.as_ref().and_then(|s| s.allocatable.as_ref()));
        let changed = !info.known
            || info.allocatable != allocatable
            || info.node.spec != node.spec
            || info.node.metadata.labels != node.metadata.labels;
        info.known = true;
        info.allocatable = allocatable;
        info.node = node;
        changed
    }

    /// Forgets a node. The pods on it stay counted in case it comes back.
    pub(crate) fn remove_node(&self, name: &str) {
        let mut state = self.lock();
        if let Some(info) = state.nodes.get_mut(name) {
            let info = Arc::make_mut(info);
            info.known = false;
            if info.requested.pods == 0 {
                state.nodes.remove(name);
            }
        }
    }

    /// Counts a pod on its node; returns whether it was not counted there before.
    pub(crate) fn put_pod(&self, pod: &PodInfo) -> bool {
        pod.node().is_some_and(|node| self.place(pod, node))
    }

    /// Counts a pod on the node chosen for it.
    pub(crate) fn assume(&self, pod: &PodInfo, node: &str) {
        self.place(pod, node);
    }

    fn place(&self, pod: &PodInfo, node: &str) -> bool {
        let mut state = self.lock();
        if let Some(placed) = state.pods.get(pod.uid()) {
            if &*placed.node == node && placed.requests == pod.requests {
                return false;
            }
            state.remove(pod.uid());
        }
        let placed = Placed {
            uid: pod.uid().into(),
            node: node.into(),
            requests: pod.requests.clone(),
            ports: pod.ports.clone(),
        };
        Arc::make_mut(state.nodes.entry(node.into()).or_default()).add(&placed);
        state.pods.insert(pod.uid().into(), placed);
        true
    }

    /// Stops counting a pod; returns whether it was counted.
    pub(crate) fn remove_pod(&self, uid: &str) -> bool {
        self.lock().remove(uid)
    }

    /// Whether a pod is counted on a node.
    pub(crate) fn has_pod(&self, uid: &str) -> bool {
        self.lock().pods.contains_key(uid)
    }

    /// The nodes as they are now, ordered by name.
    pub(crate) fn nodes(&self) -> Vec<Arc<NodeInfo>> {
        self.lock().nodes.values().filter(|info| info.known).cloned().collect()
    }
}

impl State {
    fn remove(&mut self, uid: &str) -> bool {
        let Some(placed) = self.pods.remove(uid) else { return false };
        if let Some(info) = self.nodes.get_mut(&placed.node) {
            let info = Arc::make_mut(info);
            info.remove(&placed);
            if !info.known && info.requested.pods == 0 {
                self.nodes.remove(&placed.node);
            }
        }
        true
    }
}
