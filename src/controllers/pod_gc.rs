//! Pod garbage collection: pods that no kubelet will ever end, and those that ended long ago.
//!
//! Of the first kind are pods whose node is gone, pods that are to go from a node out of service,
//! and pods that were to go before they had a node.

use std::{sync::Arc, time::Duration};

use apimachinery::{Key, Object};
use client::{
    Change, DeleteParams, Informer, Informers, Patch, PatchParams, Preconditions, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
    is_not_found,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use tracing::info;

use crate::{
    Context,
    node_lifecycle::{BY_NODE, index_by_node},
    pod::{PodFacts, node_name},
};

/// Pods that ended and are kept (upstream's `--terminated-pod-gc-threshold`).
const THRESHOLD: usize = 12_500;
/// A node that is not there may be about to come back.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The taint by which an administrator says that a node will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

struct Controller {
    context: Context,
    pods: Informer,
    nodes: Informer,
    /// Pods; a key without a name stands for all that ended.
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        pods: context.informers.of::<Pod>(),
        nodes: context.informers.of::<Node>(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    index_by_node(&controller.pods);
    Informers::synced(&[&controller.pods, &controller.nodes]).await;
    let this = controller.clone();
    controller.nodes.on_change(move |change| this.node_changed(change));
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change.object()));
    let this = controller.clone();
    let work = move |key: Key| {
        let this = this.clone();
        async move {
            match key.name.is_empty() {
                true => this.thin_out().await,
                false => this.look_at(key).await,
            }
        }
    };
    controller.context.work(controller.queue.clone(), 2, work).await;
}

impl Controller {
    fn pod_changed(&self, pod: &Object) {
        if self.pods.len() > THRESHOLD {
            self.queue.add(Key::new("", ""));
        }
        match node_name(pod) {
            None if pod.deleting => self.queue.add(pod.key.clone()),
            Some(node) if self.nodes.get(&Key::new("", node.clone())).is_none() => {
                self.queue.add_after(pod.key.clone(), QUARANTINE);
            }
            Some(node) if pod.deleting && self.is_out_of_service(&node) => {
                self.queue.add(pod.key.clone());
            }
            _ => {}
        }
    }

    fn node_changed(&self, change: &Change) {
        let name = &change.object().key.name;
        match change {
            Change::Delete(_) => {}
            Change::Put { .. } if self.is_out_of_service(name) => {}
            Change::Put { .. } => return,
        }
        self.pods.indexed(BY_NODE, name).iter().for_each(|pod| self.pod_changed(pod));
    }

    fn is_out_of_service(&self, name: &str) -> bool {
        let Some(node) = self.nodes.get(&Key::new("", name)) else { return false };
        let tainted = std::str::from_utf8(&node.body).is_ok_and(|b| b.contains(OUT_OF_SERVICE));
        let Some(node) = tainted.then(|| parse_or_warn::<Node>(&node)).flatten() else {
            return false;
        };
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
        ready.all(|condition| condition.status != "True")
            && taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
    }

    async fn look_at(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(pod) = self.pods.get(&key).and_then(PodFacts::read) else {
            return Ok(Action::Done);
        };
        let deleting = pod.object.deleting;
        if pod.node.is_empty() {
            if deleting {
                self.remove(&pod, None).await?;
            }
        } else if deleting && self.is_out_of_service(&pod.node) {
            self.remove(&pod, None).await?;
        } else if self.nodes.get(&Key::new("", pod.node.clone())).is_none() {
            match self.context.client.cluster::<Node>().get(&pod.node).await {
                Err(error) if is_not_found(&error) => {
                    self.remove(&pod, Some("PodGC: node no longer exists")).await?;
                }
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        Ok(Action::Done)
    }

    /// Deletes the oldest of the pods that ended, should there be too many.
    async fn thin_out(&self) -> Result<Action, ReconcileError> {
        let pods = self.pods.list().into_iter().filter_map(PodFacts::read);
        let mut over: Vec<PodFacts> = pods.filter(PodFacts::is_over).collect();
        let surplus = over.len().saturating_sub(THRESHOLD);
        over.sort_by(|a, b| {
            let rank = |pod: &PodFacts| (!is_evicted(&pod.object), pod.created);
            rank(a).cmp(&rank(b)).then_with(|| a.object.key.name.cmp(&b.object.key.name))
        });
        for pod in over.iter().take(surplus) {
            self.remove(pod, None).await?;
        }
        Ok(Action::Done)
    }

    /// Deletes a pod at once; one that did not end is told to have failed, and why.
    async fn remove(&self, pod: &PodFacts, why: Option<&str>) -> Result<(), ReconcileError> {
        let (key, uid) = (&pod.object.key, pod.object.uid.to_string());
        info!(pod = %key, "deleting a pod that nobody else ends");
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        if !pod.is_over() {
            let mut patch = json!({"metadata": {"uid": uid}, "status": {"phase": "Failed"}});
            if let Some(why) = why {
                patch["status"]["conditions"] = json!([{"type": "DisruptionTarget",
                    "status": "True", "reason": "DeletionByPodGC", "message": why,
                    "lastTransitionTime": apimachinery::time::now()}]);
            }
            let patch = Patch::Strategic(&patch);
            match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
                Err(error) if is_not_found(&error) => return Ok(()),
                patched => patched?,
            };
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&key.name, &params).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn is_evicted(pod: &Object) -> bool {
    pod.value().is_ok_and(|pod| pod["status"]["reason"] == "Evicted")
}
