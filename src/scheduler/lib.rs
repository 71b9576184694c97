//! Places pods on nodes: a queue of pending pods, filters that rule nodes out, scores that rank
//! the rest, and a binding. Structure and wording follow upstream's scheduling framework.
//!
//! One task decides, one pod after another, on a picture of the nodes that includes decisions not
//! yet written; bindings are written beside it. Nothing polls: a pod that found no node waits for
//! an event that could help it.

mod bind;
mod cache;
pub mod filters;
pub mod framework;
mod pod;
mod queue;
mod resources;
mod schedule;
pub mod scores;

use std::sync::Arc;

use apimachinery::Key;
use client::{Change, Informer, Informers, events::Recorder, informer::parse_or_warn};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    cache::Cache,
    framework::{ClusterEvent, Plugins},
    pod::PodInfo,
    queue::Queue,
};

/// The name that pods ask for by `spec.schedulerName`.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// What the parts of the scheduler share.
struct Scheduler {
    client: client::Client,
    recorder: Recorder,
    pods: Informer,
    cache: Cache,
    queue: Queue,
    plugins: Plugins,
}

/// Runs the default scheduler until `stop`.
pub async fn run(informers: Informers, stop: CancellationToken) {
    let client = informers.client().clone();
    let scheduler = Arc::new(Scheduler {
        recorder: Recorder::with_actions(client.clone(), DEFAULT_SCHEDULER),
        client,
        pods: informers.of::<Pod>(),
        cache: Cache::default(),
        queue: Queue::new(),
        plugins: Plugins::default(),
    });
    let nodes = informers.of::<Node>();
    follow_nodes(&scheduler, &nodes);
    follow_pods(&scheduler);
    Informers::synced(&[&nodes, &scheduler.pods]).await;
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
            let Some(pod) = parse_or_warn::<Pod>(new) else { return };
            let pod = PodInfo::new(pod);
            let was_assigned = old.as_ref().is_some_and(|old| this.cache.has_pod(&old.uid));
            if pod.is_over() {
                this.queue.remove(&new.key);
                if this.cache.remove_pod(&new.uid) {
                    this.queue.retry_on(ClusterEvent::PodRemoved, &this.plugins);
                }
            } else if pod.node().is_some() {
                this.queue.remove(&new.key);
                if this.cache.put_pod(&pod) && !was_assigned {
                    this.queue.retry_on(ClusterEvent::PodAssigned, &this.plugins);
                }
            } else if pod.is_ours() && !this.cache.has_pod(&new.uid) {
                this.queue.put(new.key.clone(), pod);
            }
        }
        Change::Delete(last) => {
            this.queue.remove(&last.key);
            if this.cache.remove_pod(&last.uid) {
                this.queue.retry_on(ClusterEvent::PodRemoved, &this.plugins);
            }
        }
    });
}

impl Scheduler {
    /// Whether the pod still waits for a node as far as the API has told.
    fn still_pending(&self, key: &Key, uid: &str) -> bool {
        self.pods.get(key).is_some_and(|object| &*object.uid == uid && !object.deleting)
    }
}
