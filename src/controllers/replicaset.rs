//! ReplicaSet: keeps as many pods as `spec.replicas` says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use apimachinery::{Key, Object, selector::labels::Selector};
use client::{
    Change, Error, Informer, Informers, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    core::v1::Pod,
};
use serde_json::json;

use crate::{
    Context,
    expectations::Expectations,
    ownership::{claim, controller_key, controller_reference, index_orphans},
    pod::{PodFacts, order_of_removal},
    pod_control::{PodControl, is_terminating, text_of},
};

/// Pods created or deleted for one ReplicaSet at a time.
const BURST: usize = 500;
/// The condition that says that pods could not be created or deleted.
const FAILURE: &str = "ReplicaFailure";
/// Index of ReplicaSets by the UID of their controller, to find siblings.
const BY_CONTROLLER: &str = "controller";

struct Controller {
    context: Context,
    sets: Informer,
    pods: Informer,
    expectations: Expectations,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.of::<ReplicaSet>(),
        pods: context.informers.of::<Pod>(),
        expectations: Expectations::default(),
        queue: Arc::new(WorkQueue::new()),
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

impl Controller {
    fn pod_changed(&self, change: &Change) {
        let pod = change.object();
        let owner = controller_key(pod, "ReplicaSet");
        match (change, &owner) {
            (Change::Put { old: None, .. }, Some(owner)) => self.expectations.created(owner),
            (Change::Delete(_), Some(owner)) => self.expectations.deleted(owner, &pod.uid),
            _ => {}
        }
        // A pod that is marked for deletion counts as gone: its replacement need not wait.
        if let (true, Some(owner)) = (pod.deleting, &owner) {
            self.expectations.deleted(owner, &pod.uid);
        }
        let previous = change.previous().and_then(|old| controller_key(old, "ReplicaSet"));
        if previous != owner
            && let Some(previous) = previous
        {
            self.queue.add(previous);
        }
        match owner {
            Some(owner) => self.queue.add(owner),
            None if pod.controller().is_none() => self.queue_adopters(pod),
            None => {}
        }
    }

    /// Queues the ReplicaSets that may want an orphan.
    fn queue_adopters(&self, pod: &Object) {
        for set in self.sets.in_namespace(&pod.key.namespace) {
            if parse_or_warn::<ReplicaSet>(&set)
                .is_some_and(|set| selector_of(&set).is_some_and(|s| s.matches(pod)))
            {
                self.queue.add(set.key.clone());
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let set: ReplicaSet = object.parse()?;
        let Some(selector) = selector_of(&set) else { return Ok(Action::Done) };
        // Asked before the pods are read: what is seen from here on is in the cache.
        let settled = self.expectations.satisfied(&key);
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        let claimed = claim(&set, &selector, &self.pods, &api).await?;
        let pods: Vec<PodFacts> = claimed.into_iter().filter_map(PodFacts::read).collect();
        let active: Vec<&PodFacts> = pods.iter().filter(|pod| pod.is_active()).collect();
        let failure = match settled && !object.deleting {
            true => self.scale(&key, &set, &active).await.err(),
            false => None,
        };
        let now = Timestamp::now();
        self.write_status(&set, &pods, failure.as_ref(), now).await?;
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
        set: &ReplicaSet,
        active: &[&PodFacts],
    ) -> Result<(), (&'static str, Error)> {
        let wanted = usize::try_from(wanted(set)).unwrap_or(0);
        let control = PodControl {
            client: &self.context.client,
            recorder: &self.context.recorder,
            owner: set,
        };
        if active.len() < wanted {
            let missing = (wanted - active.len()).min(BURST);
            self.create(key, set, &control, missing).await.map_err(|error| ("FailedCreate", error))
        } else {
            let surplus = (active.len() - wanted).min(BURST);
            let leaving = self.choose(set, active, surplus);
            self.delete(key, &control, &leaving).await.map_err(|error| ("FailedDelete", error))
        }
    }

    /// Creates pods in batches of 1, 2, 4, ...: where the first is refused (a quota, say) the
    /// others are not tried in vain.
    async fn create(
        &self,
        key: &Key,
        set: &ReplicaSet,
        control: &PodControl<'_, ReplicaSet>,
        count: usize,
    ) -> Result<(), Error> {
        let Some(template) = set.spec.template.as_ref() else {
            return Ok(());
        };
        let pod = control.pod(template, controller_reference(set));
        self.expectations.expect_creations(key, count);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let now = batch.min(left);
            let created: Vec<Result<Pod, Error>> = stream::iter(0..now)
                .map(|_| control.create(&pod))
                .buffer_unordered(16)
                .collect()
                .await;
            left -= now;
            batch *= 2;
            let mut failure = None;
            for error in created.into_iter().filter_map(Result::err) {
                self.expectations.created(key);
                failure = Some(error);
            }
            if let Some(error) = failure {
                (0..left).for_each(|_| self.expectations.created(key));
                return Err(error);
            }
        }
        Ok(())
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

    async fn delete(
        &self,
        key: &Key,
        control: &PodControl<'_, ReplicaSet>,
        leaving: &[Arc<Object>],
    ) -> Result<(), Error> {
        self.expectations.expect_deletions(key, leaving.iter().map(|pod| pod.uid.clone()));
        let deleted: Vec<(Arc<Object>, Result<(), Error>)> = stream::iter(leaving.to_vec())
            .map(async |pod| (pod.clone(), control.delete(&pod).await))
            .buffer_unordered(16)
            .collect()
            .await;
        let mut outcome = Ok(());
        for (pod, result) in deleted {
            if let Err(error) = result {
                self.expectations.deleted(key, &pod.uid);
                outcome = Err(error);
            }
        }
        outcome
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        pods: &[PodFacts],
        failure: Option<&(&'static str, Error)>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let status = status(set, pods, failure.map(|(reason, e)| (*reason, text_of(e))), now);
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.context.client.namespaced::<ReplicaSet>(namespace);
        let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn selector_of(set: &ReplicaSet) -> Option<Selector> {
    let selector = serde_json::to_value(&set.spec.selector).ok()?;
    Selector::from_object(&selector).ok().filter(|selector| !selector.is_everything())
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
