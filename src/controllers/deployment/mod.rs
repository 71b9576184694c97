//! Deployment: rolls ReplicaSets from one pod template to the next.
//!
//! One pass looks at all ReplicaSets of a Deployment, makes sure that the one of the current
//! template exists, brings their sizes one step closer to the goal, and writes the status. Every
//! step is taken anew from what is observed, so a pass may be lost at any point.

mod condition;
mod revision;
mod rolling;
mod rollout;
mod status;

use std::{sync::Arc, time::Duration};

use apimachinery::Key;
use client::{
    Informer, Informers, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};

pub(crate) use self::revision::hash;
use self::rollout::Rollout;
use crate::{
    Context,
    ownership::{claim, concerned, controller_key, index_orphans, queue_adopters, selector_of},
    status_patch::write_status,
};

const KIND: &str = "Deployment";

struct Controller {
    context: Context,
    deployments: Informer,
    sets: Informer,
    pods: Informer,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        deployments: context.informers.of::<Deployment>(),
        sets: context.informers.of::<ReplicaSet>(),
        pods: context.informers.of::<Pod>(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    index_orphans(&controller.sets);
    let queue = controller.queue.clone();
    controller.deployments.on_change(move |change| queue.add(change.object().key.clone()));
    let this = controller.clone();
    controller.sets.on_change(move |change| {
        concerned(change, KIND).for_each(|owner| this.queue.add(owner));
        let set = change.object();
        if set.controller().is_none() {
            let selector = |it: Deployment| selector_of(&it.spec.selector);
            queue_adopters(&this.deployments, set, &this.queue, selector);
        }
    });
    let this = controller.clone();
    controller.pods.on_change(move |change| {
        // Strategy Recreate waits for the last old pod to be gone.
        let pod = change.object();
        let gone = matches!(change, client::Change::Delete(_));
        let Some(set) = controller_key(pod, "ReplicaSet").filter(|_| gone) else { return };
        if let Some(owner) = this.sets.get(&set).and_then(|set| controller_key(&set, KIND)) {
            this.queue.add(owner);
        }
    });
    let (deployments, sets) = (&controller.deployments, &controller.sets);
    Informers::synced(&[deployments, sets, &controller.pods]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(controller.queue.clone(), 5, work).await;
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.deployments.get(&key) else { return Ok(Action::Done) };
        let mut deployment: Deployment = object.parse()?;
        let Some(selector) = selector_of(&deployment.spec.selector) else {
            return Ok(Action::Done);
        };
        let api = self.context.client.namespaced::<ReplicaSet>(&key.namespace);
        let claimed = claim(&deployment, &selector, &self.sets, &api).await?;
        let sets: Vec<ReplicaSet> = claimed.iter().filter_map(|set| parse_or_warn(set)).collect();
        let before = deployment.status.clone().unwrap_or_default();
        let mut rollout = Rollout::new(&self.context, &mut deployment, sets);
        let finished = if object.deleting {
            Ok(())
        } else {
            rollout.advance(|sets| self.has_pods(sets)).await
        };
        let after = rollout.status();
        write_status(&self.context.client, &deployment, &before, &after).await?;
        finished?;
        let again = condition::deadline_in(&deployment, &after);
        Ok(again.map_or(Action::Done, |delay| Action::Again(delay + Duration::from_secs(1))))
    }

    /// Whether any pod of `sets` still runs or may start.
    fn has_pods(&self, sets: &[ReplicaSet]) -> bool {
        sets.iter().any(|set| {
            let pods = self.pods.owned_by(set.metadata.uid.as_deref().unwrap_or_default());
            pods.into_iter().filter_map(crate::pod::PodFacts::read).any(|pod| !pod.is_over())
        })
    }
}
