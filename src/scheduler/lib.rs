//! Places pods on nodes: a queue of pending pods, filters that rule nodes out, scores that rank
//! the rest, preemption when none is left, and a binding. Structure and wording follow upstream's
//! scheduling framework.
//!
//! One task decides, one pod after another, on a picture of the nodes that includes decisions not
//! yet written; bindings are written beside it. Nothing polls: a pod that found no node waits for
//! an event that could help it.

mod bind;
mod cache;
pub mod filters;
pub mod framework;
mod message;
mod node;
mod pod;
pub mod preemption;
mod queue;
mod resources;
mod schedule;
pub mod scores;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use apimachinery::Object;
use client::{Change, Informer, Informers, events::Recorder, informer::parse_or_warn};
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    cache::Cache,
    framework::{ClusterEvent, Plugins},
    node::Placed,
    pod::PodInfo,
    preemption::Budget,
    queue::Queue,
};

/// The name that pods ask for by `spec.schedulerName`.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// What the parts of the scheduler share.
struct Scheduler {
    client: client::Client,
    recorder: Recorder,
    pods: Informer,
    budgets: Informer,
    cache: Cache,
    queue: Queue,
    plugins: Plugins,
}

/// Runs the default scheduler until `stop`.
pub async fn run(informers: Informers, stop: CancellationToken) {
    let client = informers.client().named("kube-scheduler");
    let scheduler = Arc::new(Scheduler {
        recorder: Recorder::with_actions(client.clone(), DEFAULT_SCHEDULER),
        client,
        pods: informers.of::<Pod>(),
        budgets: informers.of::<PodDisruptionBudget>(),
        cache: Cache::default(),
        queue: Queue::new(),
        plugins: Plugins::default(),
    });
    let nodes = informers.of::<Node>();
    follow_nodes(&scheduler, &nodes);
    follow_pods(&scheduler);
    Informers::synced(&[&nodes, &scheduler.pods, &scheduler.budgets]).await;
    info!(nodes = nodes.len(), "scheduler started");
    tokio::select! {
        () = schedule::run(scheduler.clone()) => {}
        () = stop.cancelled() => {}
    }
}

fn follow_nodes(scheduler: &Arc<Scheduler>, nodes: &Informer) {
    let this = scheduler.clone();
    nodes.on_change(move |change| match change {
        Change::Put { old, new } => {
            let Some(node) = parse_or_warn::<Node>(new) else { return };
            let event = match old {
                None => ClusterEvent::NodeAdded,
                Some(_) => ClusterEvent::NodeChanged,
            };
            if this.cache.put_node(node) {
                this.queue.retry_on(event, &this.plugins);
            }
        }
        Change::Delete(last) => this.cache.remove_node(&last.key.name),
    });
}

fn follow_pods(scheduler: &Arc<Scheduler>) {
    let this = scheduler.clone();
    scheduler.pods.on_change(move |change| match change {
        Change::Put { old, new } => {
            let Some(pod) = PodInfo::read(new) else { return };
            let was_assigned = old.as_ref().is_some_and(|old| this.cache.has_pod(&old.uid));
            if pod.is_over() {
                this.remove(new);
            } else if pod.node().is_some() {
                this.queue.remove(&new.key);
                if this.cache.put_pod(&pod) && !was_assigned {
                    this.queue.retry_on(ClusterEvent::PodAssigned, &this.plugins);
                }
            } else if pod.is_ours() && !this.cache.has_pod(&new.uid) {
                let ended = this.cache.follow_nomination(&pod);
                this.queue.put(pod);
                if let Some(ended) = ended {
                    this.nomination_ended(&ended, |_| true);
                }
            }
        }
        Change::Delete(last) => this.remove(last),
    });
}

impl Scheduler {
    /// Forgets a pod that takes up nothing any more.
    fn remove(&self, pod: &Object) {
        self.queue.remove(&pod.key);
        if let Some(ended) = self.cache.end_nomination(&pod.uid) {
            self.nomination_ended(&ended, |_| true);
        }
        if self.cache.remove_pod(&pod.uid) {
            self.queue.retry_on(ClusterEvent::PodRemoved, &self.plugins);
        }
    }

    /// The room that was kept for a pod is free for those among `which` that had to leave it.
    fn nomination_ended(&self, ended: &Placed, which: impl Fn(&PodInfo) -> bool) {
        self.queue.retry_those(ClusterEvent::PodRemoved, &self.plugins, |pod| {
            pod.priority() <= ended.priority && which(pod)
        });
    }

    /// Whether the pod still waits for a node as far as the API has told.
    fn still_pending(&self, pod: &PodInfo) -> bool {
        let known = self.pods.get(pod.key());
        known.is_some_and(|object| *object.uid == *pod.uid() && !object.deleting)
    }

    /// The PodDisruptionBudgets as they are now.
    fn budgets(&self) -> Vec<Budget> {
        self.budgets.list().iter().filter_map(|budget| Budget::read(budget)).collect()
    }
}
