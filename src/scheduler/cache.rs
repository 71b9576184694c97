//! The scheduler's picture of the nodes: what each has, what the pods on it take up, and for which
//! pods room is being made there.
//!
//! Pods are counted from the moment a node is chosen (assumed), before the API says so, so that
//! the next decision sees this one. The same holds for nominations.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Node;
use placement::requests::Amounts;

use crate::{
    node::{NodeInfo, Placed},
    pod::PodInfo,
    resources::Resources,
};

/// A pod for which room is made on a node.
struct Nominated {
    pod: Arc<Placed>,
    /// Whether the API has told of it. Until then its silence means nothing.
    told: bool,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<Box<str>, Arc<NodeInfo>>,
    pods: HashMap<Box<str>, Arc<Placed>>,
    nominated: HashMap<Box<str>, Nominated>,
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
        let info = state.node(node.metadata.name.as_deref().unwrap_or_default());
        let status = node.status.as_ref();
        let allocatable = Resources::read(status.and_then(|status| status.allocatable.as_ref()));
        let changed = !info.known
            || info.allocatable != allocatable
            || info.node.spec != node.spec
            || info.node.metadata.labels != node.metadata.labels;
        info.known = true;
        info.allocatable = allocatable;
        info.node = Arc::new(node);
        changed
    }

    /// Forgets a node. The pods on it stay counted in case it comes back.
    pub(crate) fn remove_node(&self, name: &str) {
        let mut state = self.lock();
        if state.nodes.contains_key(name) {
            state.node(name).known = false;
            state.tidy(name);
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
        state.end_nomination(pod.uid());
        let before = state.remove(pod.uid());
        let placed = Placed::new(pod, node);
        state.node(node).add(placed.clone());
        state.pods.insert(pod.uid().into(), placed);
        before.is_none_or(|before| &*before.node != node || before.requests != pod.requests)
    }

    /// Stops counting a pod; returns whether it was counted.
    pub(crate) fn remove_pod(&self, uid: &str) -> bool {
        self.lock().remove(uid).is_some()
    }

    /// Whether a pod is counted on a node.
    pub(crate) fn has_pod(&self, uid: &str) -> bool {
        self.lock().pods.contains_key(uid)
    }

    /// The nodes as they are now, ordered by name.
    pub(crate) fn nodes(&self) -> Vec<Arc<NodeInfo>> {
        self.lock().nodes.values().filter(|info| info.known).cloned().collect()
    }

    /// Notes that room is made for `pod` on `node`, before the API says so. Returns the nomination
    /// that this ends.
    pub(crate) fn nominate(&self, pod: &PodInfo, node: &str) -> Option<Arc<Placed>> {
        let mut state = self.lock();
        let before = state.end_nomination(pod.uid());
        // Someone else may have assigned it in the meantime.
        if !state.pods.contains_key(pod.uid()) {
            state.nominate(Placed::new(pod, node), false);
        }
        moved(before, Some(node))
    }

    /// Takes in what the API says about the nomination of a pending pod. Returns the nomination
    /// that this ends.
    pub(crate) fn follow_nomination(&self, pod: &PodInfo) -> Option<Arc<Placed>> {
        let mut state = self.lock();
        let before = state.end_nomination(pod.uid());
        let untold = before.as_ref().filter(|before| !before.told);
        let node: Option<Box<str>> = match pod.nominated_node() {
            Some(node) => Some(node.into()),
            None => untold.map(|before| before.pod.node.clone()),
        };
        if let Some(node) = &node {
            state.nominate(Placed::new(pod, node), pod.nominated_node().is_some());
        }
        moved(before, node.as_deref())
    }

    /// Ends a nomination, if there is one.
    pub(crate) fn end_nomination(&self, uid: &str) -> Option<Arc<Placed>> {
        self.lock().end_nomination(uid).map(|ended| ended.pod)
    }

    /// The pods of lower priority than `priority` that are nominated to a node.
    pub(crate) fn nominated_below(&self, node: &str, priority: i32) -> Vec<Arc<Placed>> {
        let state = self.lock();
        let nominated = state.nodes.get(node).map(|info| info.nominated.as_slice());
        let below = nominated.unwrap_or_default().iter().filter(|pod| pod.priority < priority);
        below.cloned().collect()
    }
}

/// The nomination before, if it is not one to `node`.
fn moved(before: Option<Nominated>, node: Option<&str>) -> Option<Arc<Placed>> {
    before.map(|before| before.pod).filter(|before| Some(&*before.node) != node)
}

impl State {
    fn node(&mut self, name: &str) -> &mut NodeInfo {
        Arc::make_mut(self.nodes.entry(name.into()).or_default())
    }

    fn tidy(&mut self, name: &str) {
        if self.nodes.get(name).is_some_and(|info| info.is_forgotten()) {
            self.nodes.remove(name);
        }
    }

    fn remove(&mut self, uid: &str) -> Option<Arc<Placed>> {
        let placed = self.pods.remove(uid)?;
        self.node(&placed.node).remove(uid);
        self.tidy(&placed.node);
        Some(placed)
    }

    fn nominate(&mut self, pod: Arc<Placed>, told: bool) {
        self.node(&pod.node).nominated.push(pod.clone());
        self.nominated.insert(pod.uid().into(), Nominated { pod, told });
    }

    fn end_nomination(&mut self, uid: &str) -> Option<Nominated> {
        let ended = self.nominated.remove(uid)?;
        self.node(&ended.pod.node).nominated.retain(|pod| pod.uid() != uid);
        self.tidy(&ended.pod.node);
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{node, pod};

    fn nominated(cache: &Cache) -> Vec<String> {
        let nodes = cache.nodes();
        nodes.iter().filter(|n| n.awaits("p")).map(|n| n.name().to_owned()).collect()
    }

    fn told(node: &str) -> PodInfo {
        let status = match node {
            "" => Value::Null,
            _ => json!({"nominatedNodeName": node}),
        };
        pod(json!({"metadata": {"name": "p"}, "status": status}))
    }

    fn cache() -> Cache {
        let cache = Cache::default();
        for name in ["a", "b"] {
            cache.put_node(node(name, "1"));
        }
        cache
    }

    #[test]
    fn a_nomination_not_yet_told_outlives_news_without_it() {
        let cache = cache();
        assert!(cache.nominate(&told(""), "a").is_none());
        assert!(cache.follow_nomination(&told("")).is_none());
        assert_eq!(nominated(&cache), ["a"]);
        assert!(cache.follow_nomination(&told("a")).is_none());
        let ended = cache.follow_nomination(&told(""));
        assert_eq!(ended.map(|pod| pod.node.to_string()).as_deref(), Some("a"));
        assert!(nominated(&cache).is_empty());
    }

    #[test]
    fn a_nomination_moves_and_ends_with_the_assignment() {
        let cache = cache();
        cache.follow_nomination(&told("a"));
        assert!(cache.nominate(&told("a"), "b").is_some(), "it ends the one before");
        assert_eq!(nominated(&cache), ["b"]);
        cache.assume(&told("a"), "a");
        assert!(nominated(&cache).is_empty());
        cache.nominate(&told("a"), "b");
        assert!(nominated(&cache).is_empty(), "a pod that has a node needs no nomination");
    }

    #[test]
    fn only_nominations_of_lower_priority_are_in_the_way() {
        let cache = cache();
        let other = pod(json!({"metadata": {"name": "q"}, "spec": {"priority": 5}}));
        cache.nominate(&other, "a");
        assert_eq!(cache.nominated_below("a", 5).len(), 0);
        assert_eq!(cache.nominated_below("a", 6).len(), 1);
        assert_eq!(cache.nominated_below("b", 6).len(), 0);
    }

    #[test]
    fn pods_stay_counted_while_their_node_is_away() {
        let cache = cache();
        let assigned = pod(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a"}}));
        assert!(cache.put_pod(&assigned));
        assert!(!cache.put_pod(&assigned), "it is counted already");
        cache.remove_node("a");
        assert_eq!(cache.nodes().len(), 1);
        cache.put_node(node("a", "1"));
        assert_eq!(cache.nodes()[0].requested.pods, 1);
        assert!(cache.remove_pod("p") && !cache.remove_pod("p"));
        assert_eq!(cache.nodes()[0].requested.pods, 0);
    }
}
