//! StatefulSet: pods with names, places and claims of their own.
//!
//! A pass sorts the pods by their ordinals, plans the next step, and takes it. The template of the
//! pods is kept in ControllerRevisions: `status.currentRevision` is the one that an update comes
//! from, `status.updateRevision` the one it goes to.

mod claims;
mod identity;
mod plan;
mod status;

use std::{collections::HashSet, sync::Arc, time::Duration};

use apimachinery::{Key, Object, selector::labels::Selector};
use client::{
    Change, DeleteParams, Error, Informer, Informers, Patch, PatchParams, PostParams,
    Preconditions, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
    is_already_exists, is_not_found,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::json;

use self::{
    claims::{Owners, Policy},
    plan::{Plan, View},
};
use crate::{
    Context,
    expectations::Expectations,
    ownership::{claim_matching, concerned, controller_reference, index_orphans, selector_of},
    pod::{Phase, PodFacts},
    pod_control::{is_terminating, text_of},
    revisions::{self, HASH_LABEL, History, Snapshot, name_of, template_of},
    status_patch::write_status,
};

const KIND: &str = "StatefulSet";
/// Label of a revision: the hash of its template.
const REVISION_HASH: &str = "controller.kubernetes.io/hash";

struct Controller {
    context: Context,
    sets: Informer,
    pods: Informer,
    claims: Informer,
    revisions: Informer,
    expectations: Expectations,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.of::<StatefulSet>(),
        pods: context.informers.of::<Pod>(),
        claims: context.informers.of::<PersistentVolumeClaim>(),
        revisions: context.informers.of::<ControllerRevision>(),
        expectations: Expectations::default(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    index_orphans(&controller.pods);
    index_orphans(&controller.revisions);
    let queue = controller.queue.clone();
    controller.sets.on_change(move |change| queue.add(change.object().key.clone()));
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    let Controller { sets, pods, claims, revisions, .. } = &*controller;
    Informers::synced(&[sets, pods, claims, revisions]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(controller.queue.clone(), 5, work).await;
}

/// One look at a set.
struct Pass<'a> {
    key: &'a Key,
    set: &'a StatefulSet,
    policy: Policy,
    /// The revision that an update comes from.
    current: &'a ControllerRevision,
    view: View<'a>,
}

impl Controller {
    fn pod_changed(&self, change: &Change) {
        self.expectations.saw(change, KIND);
        concerned(change, KIND).for_each(|owner| self.queue.add(owner));
        let pod = change.object();
        if pod.controller().is_none() {
            for set in self.sets.in_namespace(&pod.key.namespace) {
                if identity::ordinal(&set.key.name, &pod.key.name).is_some() {
                    self.queue.add(set.key.clone());
                }
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let set: StatefulSet = object.parse()?;
        let Some(selector) = selector_of(&set.spec.selector) else { return Ok(Action::Done) };
        // Asked before the pods are read: what is seen from here on is in the cache.
        let settled = self.expectations.satisfied(&key);
        let Some(history) = self.history(&key, &set, &selector).await? else {
            return Err(ReconcileError::Other("another template has the same hash".to_owned()));
        };
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        let ours = |pod: &Object| {
            selector.matches(pod) && identity::ordinal(&key.name, &pod.key.name).is_some()
        };
        let claimed = claim_matching(&set, ours, &self.pods, &api).await?;
        let pods: Vec<PodFacts> = claimed.iter().cloned().filter_map(PodFacts::read).collect();
        let before = set.status.clone().unwrap_or_default();
        let everything = || history.old.iter().chain(&history.duplicates).chain([&history.current]);
        let current = everything()
            .find(|revision| revision.metadata.name == before.current_revision)
            .unwrap_or(&history.current);
        let names = (name_of(current), name_of(&history.current));
        let view = View::new(&set, pods, names, Timestamp::now());
        let policy = Policy::of(&set.spec);
        let pass = Pass { key: &key, set: &set, policy, current, view };
        let (outcome, outdated) = match settled && !object.deleting {
            true => self.advance(&pass, &history.current).await,
            false => (Ok(()), 0),
        };
        let mut after = status::of(&pass.view);
        after.current_replicas = after.current_replicas.map(|count| count - outdated);
        status::complete(&mut after, identity::replicas(&set));
        write_status(&self.context.client, &set, &before, &after).await?;
        outcome?;
        self.clean_up(&pass, &history).await?;
        let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
        let waits =
            pass.view.all().filter_map(|(_, pod)| pod.available_in(min_ready, pass.view.now));
        let next = waits.filter(|seconds| *seconds > 0).min();
        Ok(next.map_or(Action::Done, |seconds| Action::Again(Duration::from_secs(seconds))))
    }

    /// The revisions of the set, that of the present template first. `None` where another template
    /// has the same hash; the set was told to count on.
    async fn history(
        &self,
        key: &Key,
        set: &StatefulSet,
        selector: &Selector,
    ) -> Result<Option<History>, ReconcileError> {
        let api = self.context.client.namespaced::<ControllerRevision>(&key.namespace);
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let collisions = collisions.unwrap_or(0);
        let snapshot = Snapshot { template: &set.spec.template, collisions, label: REVISION_HASH };
        let found = revisions::renew(set, selector, &snapshot, &self.revisions, &api).await?;
        if found.is_none() {
            // Bound to what was read: if the count was stale, it must not go up twice.
            let patch = json!({"metadata": {"uid": set.metadata.uid,
                "resourceVersion": set.metadata.resource_version},
                "status": {"collisionCount": collisions + 1}});
            let api = self.context.client.namespaced::<StatefulSet>(&key.namespace);
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Ok(found)
    }

    /// Takes the next step. Returns also how many old pods were deleted for the update's sake.
    async fn advance(
        &self,
        pass: &Pass<'_>,
        update: &ControllerRevision,
    ) -> (Result<(), ReconcileError>, i32) {
        if let Err(error) = self.look_after(pass).await {
            return (Err(error), 0);
        }
        let Plan { create, delete, outdated } = pass.view.plan();
        for ordinal in create {
            match self.create(pass, update, ordinal).await {
                Ok(()) => {}
                Err(ReconcileError::Api(error)) if is_terminating(&error) => return (Ok(()), 0),
                Err(error) => return (Err(error), 0),
            }
        }
        self.expectations.expect_deletions(pass.key, delete.iter().map(|pod| pod.uid.clone()));
        let mut outcome = Ok(());
        for pod in delete {
            if let Err(error) = self.delete(pass, &pod).await {
                self.expectations.deleted(pass.key, &pod.uid);
                outcome = Err(error.into());
            }
        }
        (outcome, outdated)
    }

    /// Puts the labels of pods and the claims of all right, before any of them goes.
    async fn look_after(&self, pass: &Pass<'_>) -> Result<(), ReconcileError> {
        let range = identity::ordinals(pass.set);
        for (ordinal, pod) in pass.view.all() {
            let condemned = !range.contains(&ordinal);
            if pod.phase == Phase::Pending && !condemned && !pod.object.deleting {
                self.create_claims(pass.set, pass.policy, ordinal).await?;
            }
            let owners = Owners {
                set: controller_reference(pass.set),
                pod: OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    name: pod.object.key.name.to_string(),
                    uid: pod.object.uid.to_string(),
                    controller: Some(true),
                    block_owner_deletion: Some(true),
                },
                condemned,
            };
            self.own_claims(pass.set, pass.policy, ordinal, &owners).await?;
            if !condemned && !identity::is_labelled(&pod.object) {
                let name = &pod.object.key.name;
                let patch = json!({"metadata": {"uid": pod.object.uid, "labels": {
                    identity::NAME_LABEL: &**name, identity::INDEX_LABEL: ordinal.to_string()}}});
                let api = self.context.client.namespaced::<Pod>(&pass.key.namespace);
                let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                self.tell(pass.set, "Update", name, patched.as_ref().err());
                patched?;
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        pass: &Pass<'_>,
        update: &ControllerRevision,
        ordinal: i32,
    ) -> Result<(), ReconcileError> {
        if self.has_stale_claim(pass.set, pass.policy, ordinal) {
            return Err(ReconcileError::Other("a claim of a former pod has yet to go".to_owned()));
        }
        let name = identity::pod_name(pass.set, ordinal);
        if let Err(error) = self.create_claims(pass.set, pass.policy, ordinal).await {
            let set = pass.set.metadata.name.as_deref().unwrap_or_default();
            let text = format!("Create Pod {name} in StatefulSet {set} failed error: {error}");
            self.context.recorder.warning(&reference(pass.set), "FailedCreate", text);
            return Err(error);
        }
        let revision = pass.view.revision_for(ordinal);
        let pod = match revision == name_of(update) {
            true => identity::pod(pass.set, &pass.set.spec.template, revision, ordinal),
            false => {
                let template = template_of(pass.current)?;
                identity::pod(pass.set, &template, revision, ordinal)
            }
        };
        self.expectations.expect_creations(pass.key, 1);
        let api = self.context.client.namespaced::<Pod>(&pass.key.namespace);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => {
                self.tell(pass.set, "Create", &name, None);
                Ok(())
            }
            Err(error) => {
                self.expectations.created(pass.key);
                if !is_already_exists(&error) && !is_terminating(&error) {
                    self.tell(pass.set, "Create", &name, Some(&error));
                }
                Err(error.into())
            }
        }
    }

    async fn delete(&self, pass: &Pass<'_>, pod: &Object) -> Result<(), Error> {
        let uid = Some(pod.uid.to_string());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        let api = self.context.client.namespaced::<Pod>(&pass.key.namespace);
        match api.delete(&pod.key.name, &params).await {
            Err(error) if !is_not_found(&error) => {
                self.tell(pass.set, "Delete", &pod.key.name, Some(&error));
                Err(error)
            }
            _ => {
                self.tell(pass.set, "Delete", &pod.key.name, None);
                Ok(())
            }
        }
    }

    /// Records what was done to a pod, or why it could not be.
    fn tell(&self, set: &StatefulSet, verb: &str, pod: &str, error: Option<&Error>) {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let what = format!("{verb} Pod {pod} in StatefulSet {name}");
        let (recorder, about) = (&self.context.recorder, reference(set));
        match error {
            None => {
                recorder.normal(&about, &format!("Successful{verb}"), format!("{what} successful"));
            }
            Some(error) => {
                let text = format!("{what} failed error: {}", text_of(error));
                recorder.warning(&about, &format!("Failed{verb}"), text);
            }
        }
    }

    /// Deletes the oldest revisions beyond the history limit, of which no pod is left.
    async fn clean_up(&self, pass: &Pass<'_>, history: &History) -> Result<(), Error> {
        let limit =
            usize::try_from(pass.set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let pods = pass.view.all().filter_map(|(_, pod)| pod.object.label(HASH_LABEL));
        let mut live: HashSet<&str> = pods.collect();
        live.insert(name_of(pass.current));
        let api = self.context.client.namespaced::<ControllerRevision>(&pass.key.namespace);
        for revision in history.surplus(limit, |revision| live.contains(name_of(revision))) {
            revisions::delete(&api, revision).await?;
        }
        Ok(())
    }
}
