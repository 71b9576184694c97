//! ReplicaSet and ReplicationController: keep as many pods as `spec.replicas` says.
//!
//! One controller for both: a ReplicationController is seen as the ReplicaSet that it would be, as
//! upstream does it.

mod kind;

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Duration};

use apimachinery::{Key, Object};
use client::{
    Change, Error, Informer, Informers, WorkQueue,
    controller::{Action, ReconcileError},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    core::v1::Pod,
};

use self::kind::Replicated;
use crate::{
    Context,
    expectations::Expectations,
    ownership::{
        claim, concerned, controller_reference, index_orphans, queue_adopters, selector_of,
    },
    pod::{PodFacts, order_of_removal},
    pod_batch::{BURST, create_all, delete_all},
    pod_control::{PodControl, is_terminating, text_of},
    status_patch::write_status,
};

/// The condition that says that pods could not be created or deleted.
const FAILURE: &str = "ReplicaFailure";
/// Index of ReplicaSets by the UID of their controller, to find siblings.
const BY_CONTROLLER: &str = "controller";

struct Controller<K> {
    context: Context,
    sets: Informer,
    pods: Informer,
    expectations: Expectations,
    queue: Arc<WorkQueue<Key>>,
    kind: PhantomData<fn() -> K>,
}

/// Runs the controller of one of the kinds.
pub(crate) async fn run<K: Replicated>(context: Context) {
    let controller = Arc::new(Controller::<K> {
        sets: context.informers.of::<K>(),
        pods: context.informers.of::<Pod>(),
        expectations: Expectations::default(),
        queue: Arc::new(WorkQueue::new()),
        kind: PhantomData,
        context,
    });
    index_orphans(&controller.pods);
    controller.sets.add_index(BY_CONTROLLER, |object| {
        object.controller().map(|owner| owner.uid.clone()).into_iter().collect()
    });
    let queue = controller.queue.clone();
    controller.sets.on_change(move |change| queue.add(change.object().key.clone()));
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    Informers::synced(&[&controller.sets, &controller.pods]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(controller.queue.clone(), 5, work).await;
}

impl<K: Replicated> Controller<K> {
    fn pod_changed(&self, change: &Change) {
        let kind = K::kind(&());
        self.expectations.saw(change, &kind);
        concerned(change, &kind).for_each(|owner| self.queue.add(owner));
        let pod = change.object();
        if pod.controller().is_none() {
            let selector = |owner: K| selector_of(&owner.as_set().spec.selector);
            queue_adopters(&self.sets, pod, &self.queue, selector);
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let owner: K = object.parse()?;
        let set = owner.as_set();
        let Some(selector) = selector_of(&set.spec.selector) else { return Ok(Action::Done) };
        // Asked before the pods are read: what is seen from here on is in the cache.
        let settled = self.expectations.satisfied(&key);
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        let claimed = claim(&owner, &selector, &self.pods, &api).await?;
        let pods: Vec<PodFacts> = claimed.into_iter().filter_map(PodFacts::read).collect();
        let active: Vec<&PodFacts> = pods.iter().filter(|pod| pod.is_active()).collect();
        let failure = match settled && !object.deleting {
            true => self.scale(&key, &owner, &set, &active).await.err(),
            false => None,
        };
        let now = Timestamp::now();
        self.write_status(&owner, &set, &pods, failure.as_ref(), now).await?;
        if let Some((_, error)) = failure {
            return if is_terminating(&error) { Ok(Action::Done) } else { Err(error.into()) };
        }
        let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
        let next =
            active.iter().filter_map(|pod| pod.available_in(min_ready, now)).filter(|s| *s > 0);
        Ok(next.min().map_or(Action::Done, |seconds| Action::Again(Duration::from_secs(seconds))))
    }

    /// Creates what is missing or deletes what is too much. On failure also says which it was.
    async fn scale(
        &self,
        key: &Key,
        owner: &K,
        set: &ReplicaSet,
        active: &[&PodFacts],
    ) -> Result<(), (&'static str, Error)> {
        let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        let control =
            PodControl { client: &self.context.client, recorder: &self.context.recorder, owner };
        if active.len() < wanted {
            let Some(template) = set.spec.template.as_ref() else { return Ok(()) };
            let pod = control.pod(template, controller_reference(owner));
            let missing = vec![pod; (wanted - active.len()).min(BURST)];
            let (_, outcome) = create_all(&control, &self.expectations, key, missing).await;
            outcome.map_err(|error| ("FailedCreate", error))
        } else {
            let surplus = (active.len() - wanted).min(BURST);
            let leaving = self.choose(set, active, surplus);
            let (_, outcome) = delete_all(&control, &self.expectations, key, leaving).await;
            outcome.map_err(|error| ("FailedDelete", error))
        }
    }

    /// Chooses `count` pods to go. Pods on nodes with many of the ReplicaSet's siblings go before
    /// others, so that a rolling update does not empty a node.
    fn choose(&self, set: &ReplicaSet, active: &[&PodFacts], count: usize) -> Vec<Arc<Object>> {
        if count == 0 {
            return Vec::new();
        }
        let mut crowd: HashMap<Box<str>, usize> = HashMap::new();
        for sibling in self.siblings(set) {
            for pod in self.pods.owned_by(&sibling).into_iter().filter_map(PodFacts::read) {
                if pod.is_active() && !pod.node.is_empty() {
                    *crowd.entry(pod.node).or_default() += 1;
                }
            }
        }
        let crowd_of = |pod: &PodFacts| crowd.get(&pod.node).copied().unwrap_or(0);
        let mut ordered: Vec<&&PodFacts> = active.iter().collect();
        ordered.sort_by(|a, b| order_of_removal((a, crowd_of(a)), (b, crowd_of(b))));
        ordered.into_iter().take(count).map(|pod| pod.object.clone()).collect()
    }

    /// UIDs of the ReplicaSets under the same controller, this one included.
    fn siblings(&self, set: &ReplicaSet) -> Vec<Box<str>> {
        let owners = set.metadata.owner_references.as_deref().unwrap_or_default();
        match owners.iter().find(|owner| owner.controller == Some(true)) {
            Some(owner) => {
                let sets = self.sets.indexed(BY_CONTROLLER, &owner.uid);
                sets.into_iter().map(|set| set.uid.clone()).collect()
            }
            None => set.metadata.uid.as_deref().map(Into::into).into_iter().collect(),
        }
    }

    async fn write_status(
        &self,
        owner: &K,
        set: &ReplicaSet,
        pods: &[PodFacts],
        failure: Option<&(&'static str, Error)>,
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        let before = set.status.clone().unwrap_or_default();
        let mut after = status(set, pods, failure.map(|(reason, e)| (*reason, text_of(e))), now);
        if !K::TELLS_TERMINATING {
            after.terminating_replicas = None;
        }
        write_status(&self.context.client, owner, &before, &after).await
    }
}

fn status(
    set: &ReplicaSet,
    pods: &[PodFacts],
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let template =
        set.spec.template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let active: Vec<&PodFacts> = pods.iter().filter(|pod| pod.is_active()).collect();
    let count = |wanted: &dyn Fn(&PodFacts) -> bool| {
        i32::try_from(active.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
    };
    let terminating = pods.iter().filter(|pod| pod.object.deleting && !pod.is_over()).count();
    let old = set.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.unwrap_or_default();
    match failure {
        Some(_)
            if conditions.iter().any(|condition| condition.type_.as_deref() == Some(FAILURE)) => {}
        Some((reason, message)) => conditions.push(ReplicaSetCondition {
            type_: Some(FAILURE.to_owned()),
            status: Some("True".to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
        }),
        None => conditions.retain(|condition| condition.type_.as_deref() != Some(FAILURE)),
    }
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&|pod| {
            template.is_none_or(|labels| {
                labels.iter().all(|(key, value)| pod.object.label(key) == Some(value))
            })
        })),
        ready_replicas: Some(count(&|pod| pod.ready.is_some())),
        available_replicas: Some(count(&|pod| pod.is_available(min_ready, now))),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
    }
}
