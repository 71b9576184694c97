//! Disruption: how many pods of each PodDisruptionBudget may be evicted now.
//!
//! The API server's eviction counts a budget down; this counts it anew whenever its pods change.

mod scale;
mod stale;
mod status;

use std::{sync::Arc, time::Duration};

use apimachinery::{Key, Object, selector::labels::Selector};
use client::{
    Change, Informer, Informers, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Pod, ReplicationController},
    policy::v1::PodDisruptionBudget,
};

use self::{scale::Expected, status::Found};
use crate::{Context, pod::PodFacts, status_patch::write_status_at};

struct Controller {
    context: Context,
    budgets: Informer,
    pods: Informer,
    sets: Informer,
    deployments: Informer,
    stateful_sets: Informer,
    replication: Informer,
    queue: Arc<WorkQueue<Key>>,
    /// Pods that are announced to go.
    announced: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        budgets: context.informers.of::<PodDisruptionBudget>(),
        pods: context.informers.of::<Pod>(),
        sets: context.informers.of::<ReplicaSet>(),
        deployments: context.informers.of::<Deployment>(),
        stateful_sets: context.informers.of::<StatefulSet>(),
        replication: context.informers.of::<ReplicationController>(),
        queue: Arc::new(WorkQueue::new()),
        announced: Arc::new(WorkQueue::new()),
        context,
    });
    let queue = controller.queue.clone();
    controller.budgets.on_change(move |change| queue.add(change.object().key.clone()));
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    let scaled = [
        &controller.sets,
        &controller.deployments,
        &controller.stateful_sets,
        &controller.replication,
    ];
    for informer in scaled {
        let this = controller.clone();
        informer.on_change(move |change| this.scale_changed(change));
        informer.synced().await;
    }
    Informers::synced(&[&controller.budgets, &controller.pods]).await;
    let this = controller.clone();
    let budgets = controller.context.work(controller.queue.clone(), 2, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    let this = controller.clone();
    let announced = controller.context.work(controller.announced.clone(), 1, move |key| {
        let this = this.clone();
        async move { this.free_pod(key).await }
    });
    tokio::join!(budgets, announced);
}

/// The selector of a budget: an empty one selects everything, a missing one nothing.
fn selector_of(budget: &Object) -> Option<Selector> {
    let value = budget.value().ok()?;
    Selector::from_object(&value["spec"]["selector"]).ok()
}

impl Controller {
    fn pod_changed(&self, change: &Change) {
        let pod = change.object();
        if stale::may_be_target(pod) {
            self.announced.add(pod.key.clone());
        }
        let before = change.previous().filter(|before| before.labels != pod.labels);
        for budget in self.budgets.in_namespace(&pod.key.namespace) {
            let Some(selector) = selector_of(&budget) else { continue };
            if selector.matches(&**pod) || before.is_some_and(|old| selector.matches(&**old)) {
                self.queue.add(budget.key.clone());
            }
        }
    }

    /// Queues the budgets of a namespace in which something was scaled.
    fn scale_changed(&self, change: &Change) {
        let object = change.object();
        for budget in self.budgets.in_namespace(&object.key.namespace) {
            self.queue.add(budget.key.clone());
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.budgets.get(&key) else { return Ok(Action::Done) };
        let budget: PodDisruptionBudget = object.parse()?;
        let (recorder, about) = (&self.context.recorder, reference(&budget));
        let selector = selector_of(&object);
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selector.as_ref().is_some_and(|selector| selector.matches(&**pod)));
        if pods.is_empty() {
            recorder.normal(&about, "NoPods", "No matching pods found");
        }
        let before = budget.status.clone().unwrap_or_default();
        let spec = budget.spec.clone().unwrap_or_default();
        let expected = match status::asks_controllers(&spec) {
            true => self.expected(&pods.iter().map(|pod| &**pod).collect::<Vec<_>>()).await,
            false => {
                let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
                Ok(Expected { pods: count, unmanaged: 0 })
            }
        };
        let now = Timestamp::now();
        let expected = match expected {
            Ok(expected) => expected,
            Err(error) => {
                let text = format!("Failed to calculate the number of expected pods: {error}");
                recorder.warning(&about, "CalculateExpectedPodCountFailed", text);
                let after = status::failed(&before, error.to_string(), now);
                write_status_at(&self.context.client, &budget, &before, &after).await?;
                return Err(error);
            }
        };
        if expected.unmanaged > 0 {
            let selector = object.value()?["spec"]["selector"].take();
            let text = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to \
                 be unmanaged. As a result, the status of the PDB cannot be calculated correctly, \
                 which may result in undefined behavior. To account for these pods please set \
                 \".spec.minAvailable\" field of the PDB to an integer value."
            );
            recorder.warning(&about, "UnmanagedPods", text);
        }
        let pods: Vec<PodFacts> = pods.into_iter().filter_map(PodFacts::read).collect();
        let found = Found {
            pods: &pods,
            expected: expected.pods,
            desired: status::desired(&spec, expected.pods),
            generation: budget.metadata.generation,
            now,
        };
        let (after, again, stayed) = found.status(&before);
        for pod in stayed {
            if let Ok(pod) = pod.object.parse::<Pod>() {
                let text = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
                recorder.warning(&reference(&pod), "NotDeleted", text);
            }
        }
        // An eviction that came in between must stay counted.
        write_status_at(&self.context.client, &budget, &before, &after).await?;
        let again = again.map(|left| left + Duration::from_secs(1));
        Ok(again.map_or(Action::Done, Action::Again))
    }
}
