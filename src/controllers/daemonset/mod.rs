//! DaemonSet: one pod on each node that its template's node selector, affinity and tolerations
//! let it run on.
//!
//! Pods are made for a node by their affinity and placed there by the scheduler. Templates are
//! remembered as ControllerRevisions.

pub(crate) mod placement;
mod pods;
mod rolling;
mod status;

use std::{collections::HashSet, sync::Arc, time::Duration};

use apimachinery::{Key, Object, selector::labels::Selector};
use client::{
    Change, Error, Informer, Informers, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use serde_json::json;

use self::{
    placement::{NodeFacts, Placement, bind},
    pods::{Backoff, Current, Plan, by_node, generation_label, settle},
};
use crate::{
    Context,
    expectations::Expectations,
    ownership::{
        claim, concerned, controller_key, controller_reference, index_orphans, queue_adopters,
        selector_of,
    },
    pod::{Phase, PodFacts},
    pod_batch::{BURST, create_all, delete_all},
    pod_control::{PodControl, is_terminating},
    revisions::{self, HASH_LABEL, History, Snapshot},
    status_patch::write_status,
};

const KIND: &str = "DaemonSet";
/// The annotation with which the API server tells the template's generation.
const GENERATION: &str = "deprecated.daemonset.template.generation";

struct Controller {
    context: Context,
    sets: Informer,
    pods: Informer,
    nodes: Informer,
    revisions: Informer,
    expectations: Expectations,
    backoff: Backoff,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.of::<DaemonSet>(),
        pods: context.informers.of::<Pod>(),
        nodes: context.informers.of::<Node>(),
        revisions: context.informers.of::<ControllerRevision>(),
        expectations: Expectations::default(),
        backoff: Backoff::default(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    index_orphans(&controller.pods);
    index_orphans(&controller.revisions);
    let queue = controller.queue.clone();
    controller.sets.on_change(move |change| queue.add(change.object().key.clone()));
    let queue = controller.queue.clone();
    controller.revisions.on_change(move |change| {
        if let Some(owner) = controller_key(change.object(), KIND) {
            queue.add(owner);
        }
    });
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    let this = controller.clone();
    controller.nodes.on_change(move |change| this.node_changed(change));
    let (sets, pods) = (&controller.sets, &controller.pods);
    Informers::synced(&[sets, pods, &controller.nodes, &controller.revisions]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(controller.queue.clone(), 2, work).await;
}

impl Controller {
    fn pod_changed(&self, change: &Change) {
        self.expectations.saw(change, KIND);
        concerned(change, KIND).for_each(|owner| self.queue.add(owner));
        let pod = change.object();
        if pod.controller().is_none() {
            let selector = |set: DaemonSet| selector_of(&set.spec.selector);
            queue_adopters(&self.sets, pod, &self.queue, selector);
        }
    }

    /// A node matters when it comes, goes, or has other labels or taints: its heartbeats do not.
    fn node_changed(&self, change: &Change) {
        if let Change::Put { old: Some(old), new } = change
            && let (Some(old), Some(new)) = (NodeFacts::read(old), NodeFacts::read(new))
            && old == new
        {
            return;
        }
        self.sets.list().into_iter().for_each(|set| self.queue.add(set.key.clone()));
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            self.backoff.forget(&key);
            return Ok(Action::Done);
        };
        if object.deleting {
            // Its revisions may be gone before its pods: nothing can be told about these any more.
            return Ok(Action::Done);
        }
        let set: DaemonSet = object.parse()?;
        let Some(selector) = selector_of(&set.spec.selector) else {
            let message =
                "This daemon set is selecting all pods. A non-empty selector is required.";
            self.context.recorder.warning(&reference(&set), "SelectingAll", message);
            return Ok(Action::Done);
        };
        let history = self.history(&key, &set, &selector).await?;
        // Asked before the pods are read: what is seen from here on is in the cache.
        let settled = self.expectations.satisfied(&key);
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        let claimed = claim(&set, &selector, &self.pods, &api).await?;
        self.merge_duplicates(&key, &history, &claimed).await?;
        let pass = Pass {
            key: &key,
            set: &set,
            hash: history.hash(),
            now: Timestamp::now(),
            nodes: self.nodes.list().iter().filter_map(|node| NodeFacts::read(node)).collect(),
            placement: Placement::of(&set.spec.template.spec.clone().unwrap_or_default()),
            pods: by_node(claimed.iter().cloned().filter_map(PodFacts::read)),
        };
        let (outcome, again) = match settled {
            true => self.advance(&pass).await,
            false => (Ok(()), None),
        };
        if settled && outcome.is_ok() {
            self.clean_up(&key, &set, &history, &claimed).await?;
        }
        let (status, available) = status::of(&pass, settled);
        let before = set.status.clone().unwrap_or_default();
        write_status(&self.context.client, &set, &before, &status).await?;
        if let Err(error) = outcome {
            return if is_terminating(&error) { Ok(Action::Done) } else { Err(error.into()) };
        }
        let next = again.into_iter().chain(available).min();
        Ok(next.map_or(Action::Done, Action::Again))
    }

    /// Makes sure that the present template has its revision.
    async fn history(
        &self,
        key: &Key,
        set: &DaemonSet,
        selector: &Selector,
    ) -> Result<History, ReconcileError> {
        let api = self.context.client.namespaced::<ControllerRevision>(&key.namespace);
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let collisions = collisions.unwrap_or(0);
        let template = &set.spec.template;
        let snapshot = Snapshot { template, collisions, label: HASH_LABEL };
        if let Some(history) =
            revisions::renew(set, selector, &snapshot, &self.revisions, &api).await?
        {
            return Ok(history);
        }
        // Bound to what was read: if the count in the cache was stale, it must not go up twice.
        let patch = json!({"metadata": {"uid": set.metadata.uid,
            "resourceVersion": set.metadata.resource_version},
            "status": {"collisionCount": collisions + 1}});
        let api = self.context.client.namespaced::<DaemonSet>(&key.namespace);
        api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Err(ReconcileError::Other("another template has the same hash".to_owned()))
    }

    /// Of several revisions with the same template keeps one, for the pods of the others too.
    async fn merge_duplicates(
        &self,
        key: &Key,
        history: &History,
        pods: &[Arc<Object>],
    ) -> Result<(), Error> {
        if history.duplicates.is_empty() {
            return Ok(());
        }
        let hash = history.hash();
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        for pod in pods {
            let label = pod.label(HASH_LABEL);
            if history.duplicates.iter().any(|one| Some(revisions::hash_of(one)) == label) {
                let patch = json!({"metadata": {"uid": pod.uid, "labels": {HASH_LABEL: hash}}});
                let patch = Patch::Merge(&patch);
                api.patch(&pod.key.name, &PatchParams::default(), &patch).await?;
            }
        }
        let api = self.context.client.namespaced::<ControllerRevision>(&key.namespace);
        for revision in &history.duplicates {
            revisions::delete(&api, revision).await?;
        }
        Ok(())
    }

    /// Creates and deletes pods. Returns also when to look again.
    async fn advance(&self, pass: &Pass<'_>) -> (Result<(), Error>, Option<Duration>) {
        let (spec, current) = (&pass.set.spec, pass.current());
        let observed = pass.set.status.as_ref().and_then(|status| status.observed_generation);
        let surges = rolling::surges(spec);
        let plan = settle(&pass.nodes, &pass.pods, &pass.placement, surges, &current, |node| {
            self.backoff.wait(pass.key, observed, node)
        });
        let recorder = &self.context.recorder;
        for (phase, pod, node) in &plan.ended {
            let about = reference(pass.set);
            if *phase == Phase::Failed {
                let message =
                    format!("Found failed daemon pod {pod} on node {node}, will try to kill it");
                recorder.warning(&about, "FailedDaemonPod", message);
            } else {
                let message = format!(
                    "Found succeeded daemon pod {pod} on node {node}, will try to delete it"
                );
                recorder.normal(&about, "SucceededDaemonPod", message);
            }
        }
        let again = plan.again;
        // Updates go on from where every node is as it should be.
        let plan = match plan.is_empty() {
            true => rolling::step(&pass.nodes, &pass.pods, &pass.placement, spec, &current),
            false => plan,
        };
        (self.enact(pass, plan).await, again)
    }

    async fn enact(&self, pass: &Pass<'_>, mut plan: Plan) -> Result<(), Error> {
        let control = PodControl {
            client: &self.context.client,
            recorder: &self.context.recorder,
            owner: pass.set,
        };
        plan.create.truncate(BURST);
        plan.delete.truncate(BURST);
        let mut template = pass.set.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.extend(pass.generation().map(generation_label));
        labels.insert(HASH_LABEL.to_owned(), pass.hash.to_owned());
        let blank = control.pod(&template, controller_reference(pass.set));
        let new = plan.create.iter().map(|node| {
            let mut pod = blank.clone();
            bind(pod.spec.get_or_insert_default(), node);
            pod
        });
        let (_, created) = create_all(&control, &self.expectations, pass.key, new.collect()).await;
        let (_, deleted) = delete_all(&control, &self.expectations, pass.key, plan.delete).await;
        created.and(deleted)
    }

    /// Deletes the oldest revisions beyond the history limit.
    async fn clean_up(
        &self,
        key: &Key,
        set: &DaemonSet,
        history: &History,
        pods: &[Arc<Object>],
    ) -> Result<(), Error> {
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let live: HashSet<&str> = pods.iter().filter_map(|pod| pod.label(HASH_LABEL)).collect();
        let api = self.context.client.namespaced::<ControllerRevision>(&key.namespace);
        let limit = usize::try_from(limit).unwrap_or(0);
        for revision in history.surplus(limit, |one| live.contains(revisions::hash_of(one))) {
            revisions::delete(&api, revision).await?;
        }
        Ok(())
    }
}

/// A DaemonSet with what one pass looks at.
struct Pass<'a> {
    key: &'a Key,
    set: &'a DaemonSet,
    hash: &'a str,
    now: Timestamp,
    nodes: Vec<NodeFacts>,
    placement: Placement,
    pods: pods::PodsByNode,
}

impl Pass<'_> {
    /// The template's generation, as far as it is told.
    fn generation(&self) -> Option<&str> {
        let annotations = self.set.metadata.annotations.as_ref()?;
        annotations.get(GENERATION).map(String::as_str).filter(|text| text.parse::<i64>().is_ok())
    }

    fn current(&self) -> Current<'_> {
        Current {
            hash: self.hash,
            generation: self.generation(),
            min_ready_seconds: self.set.spec.min_ready_seconds.unwrap_or(0),
            now: self.now,
        }
    }
}
