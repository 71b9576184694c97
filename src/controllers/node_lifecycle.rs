//! Node lifecycle: notices nodes that fell silent, and turns node conditions into taints.
//!
//! A node is silent when its lease was not renewed for 40 s. Nothing polls: each renewal moves the
//! moment at which the node is looked at again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apimachinery::Key;
use client::{
    Client, Error, Informer, Informers, Patch, PatchParams, Scope, WorkQueue,
    controller::{Action, ReconcileError},
    events::{Recorder, reference},
    is_conflict,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, Pod, Taint},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::Context;

/// Silence after which a node counts as unreachable (upstream's node-monitor-grace-period).
const GRACE: Duration = Duration::from_secs(40);
const LEASES: &str = "kube-node-lease";
/// Index of pods by node.
pub(crate) const BY_NODE: &str = "node";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Conditions whose being true taints a node.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

struct Controller {
    client: Client,
    recorder: Recorder,
    nodes: Informer,
    leases: Informer,
    pods: Informer,
    heard: Mutex<HashMap<Box<str>, Heard>>,
}

/// The renewal that a lease last told of, and when it was seen: by our clock, since the node's
/// may be off.
type Heard = (Option<Timestamp>, Instant);

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let scope = Scope { namespace: Some(LEASES.to_owned()), ..Scope::default() };
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        recorder: context.recorder.renamed("node-controller"),
        nodes: context.informers.of::<Node>(),
        leases: context.informers.scoped::<Lease>(scope),
        pods: context.informers.of::<Pod>(),
        heard: Mutex::default(),
    });
    index_by_node(&controller.pods);
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    controller.nodes.on_change(move |change| adding.add(change.object().key.clone()));
    let adding = queue.clone();
    let this = controller.clone();
    controller.leases.on_change(move |change| {
        // A renewal in time needs no look; one of a node that was given up does.
        if this.was_silent(&change.object().key.name) {
            adding.add(Key::new("", change.object().key.name.clone()));
        }
    });
    Informers::synced(&[&controller.nodes, &controller.leases, &controller.pods]).await;
    let this = controller.clone();
    let work = move |key: Key| {
        let this = this.clone();
        async move { this.reconcile(&key).await }
    };
    context.work(queue, 2, work).await;
}

/// Adds the index of pods by the node that they are assigned to.
pub(crate) fn index_by_node(pods: &Informer) {
    pods.add_index(BY_NODE, |object| crate::pod::node_name(object).into_iter().collect());
}

impl Controller {
    /// How long ago the node was last heard of.
    fn silence(&self, node: &str) -> Duration {
        let lease = self.leases.get_as::<Lease>(LEASES, node);
        let renewed = lease.and_then(|lease| lease.spec?.renew_time).map(|time| time.0);
        let now = Instant::now();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = heard.entry(node.into()).or_insert((renewed, now));
        if entry.0 != renewed {
            *entry = (renewed, now);
        }
        now - entry.1
    }

    fn was_silent(&self, node: &str) -> bool {
        self.nodes.get_as::<Node>("", node).is_some_and(|node| {
            condition(&node, "Ready").is_some_and(|ready| ready.status == "Unknown")
        })
    }

    async fn reconcile(&self, key: &Key) -> Result<Action, ReconcileError> {
        let Some(node) = self.nodes.get_as::<Node>("", &key.name) else {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.remove(&key.name);
            return Ok(Action::Done);
        };
        let silence = self.silence(&key.name);
        let mut node = node;
        if silence >= GRACE {
            node = self.mark_unknown(node).await?;
        }
        self.taint(&node).await?;
        if condition(&node, "Ready").is_none_or(|ready| ready.status != "True") {
            self.mark_pods_not_ready(&node).await?;
        }
        let left = GRACE.saturating_sub(silence);
        Ok(Action::Again(if left.is_zero() { GRACE } else { left }))
    }

    /// Sets the conditions that only the node itself can vouch for to Unknown.
    async fn mark_unknown(&self, node: Node) -> Result<Node, Error> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let now = Some(Time(Timestamp::now()));
        let mut conditions = Vec::new();
        for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
            let known = condition(&node, kind);
            if known.is_some_and(|known| known.status == "Unknown") {
                continue;
            }
            let (reason, message) = match known {
                Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
                None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
            };
            conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_heartbeat_time: known.and_then(|known| known.last_heartbeat_time.clone()),
                last_transition_time: now.clone(),
            });
        }
        if conditions.is_empty() {
            return Ok(node);
        }
        warn!(node = name, "node fell silent");
        let message = format!("Node {name} status is now: NodeNotReady");
        self.recorder.normal(&reference(&node), "NodeNotReady", message);
        let patch = json!({"status": {"conditions": conditions}});
        let api = self.client.cluster::<Node>();
        api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await
    }

    /// Brings the taints that stand for conditions in line with them.
    async fn taint(&self, node: &Node) -> Result<(), Error> {
        let known = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let taints = taints(node, &known);
        if taints == known {
            return Ok(());
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        info!(node = name, count = taints.len(), "taints changed");
        // Bound to the revision: taints of others must not be lost.
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints}});
        let api = self.client.cluster::<Node>();
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }

    /// Pods of a node that is not ready are not ready either, so that services leave them out.
    async fn mark_pods_not_ready(&self, node: &Node) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for object in self.pods.indexed(BY_NODE, name) {
            let facts = crate::pod::PodFacts::read(object.clone());
            if facts.is_none_or(|pod| pod.ready.is_none()) {
                continue;
            }
            let patch = json!({"metadata": {"uid": object.uid}, "status": {"conditions": [{
                "type": "Ready", "status": "False", "lastTransitionTime": apimachinery::time::now(),
            }]}});
            let api = self.client.namespaced::<Pod>(&object.key.namespace);
            let patch = Patch::Strategic(&patch);
            match api.patch_status(&object.key.name, &PatchParams::default(), &patch).await {
                Err(error) if !client::is_not_found(&error) && !is_conflict(&error) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The taints that a node should have: those of others as they are, ours by its conditions.
fn taints(node: &Node, known: &[Taint]) -> Vec<Taint> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match condition(node, "Ready").map(|ready| ready.status.as_str()) {
        Some("True") => {}
        Some("False") => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        // A node that never reported is about to: it is spared from eviction until it is silent.
        None => wanted.push((NOT_READY, "NoSchedule")),
        Some(_) => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| {
        [UNREACHABLE, NOT_READY, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key)
    };
    let is =
        |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut taints: Vec<Taint> = known
        .iter()
        .filter(|taint| !ours(taint) || wanted.iter().any(|wanted| is(taint, wanted)))
        .cloned()
        .collect();
    for wanted in &wanted {
        if !taints.iter().any(|taint| is(taint, wanted)) {
            let (key, effect) = *wanted;
            // The time matters where toleration is for a while only.
            let since = (effect == "NoExecute").then(|| Time(Timestamp::now()));
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: since,
                value: None,
            });
        }
    }
    taints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: Option<&str>, unschedulable: bool) -> Node {
        let conditions: Vec<_> =
            ready.iter().map(|status| json!({"type": "Ready", "status": status})).collect();
        serde_json::from_value(json!({"metadata": {"name": "n"},
            "spec": {"unschedulable": unschedulable}, "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn keys(taints: &[Taint]) -> Vec<String> {
        taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
    }

    #[test]
    fn conditions_become_taints_and_other_taints_stay() {
        let other = Taint { key: "mine".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let not_ready = taints(&node(Some("False"), true), std::slice::from_ref(&other));
        assert_eq!(
            keys(&not_ready),
            [
                "mine:NoSchedule",
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute",
                "node.kubernetes.io/unschedulable:NoSchedule",
            ]
        );
        assert_eq!(taints(&node(Some("True"), false), &not_ready), [other]);
    }

    #[test]
    fn a_node_that_never_reported_takes_no_pods_and_evicts_none() {
        let new = taints(&node(None, false), &[]);
        assert_eq!(keys(&new), ["node.kubernetes.io/not-ready:NoSchedule"]);
    }
}
