//! One pass over one Deployment.

use client::{DeleteParams, Error, PostParams, events::reference, is_already_exists, is_not_found};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::{condition, revision, rolling, status};
use crate::{
    Context,
    ownership::controller_reference,
    pod_control::{is_terminating, text_of},
};

/// A Deployment with its ReplicaSets, as the pass goes along.
pub(super) struct Rollout<'a> {
    context: &'a Context,
    deployment: &'a mut Deployment,
    sets: Vec<ReplicaSet>,
    /// Where in `sets` the one of the current template is.
    new: Option<usize>,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        context: &'a Context,
        deployment: &'a mut Deployment,
        sets: Vec<ReplicaSet>,
    ) -> Self {
        let new = revision::find_new(deployment, &sets);
        Self { context, deployment, sets, new }
    }

    /// The status after the pass.
    pub(super) fn status(&self) -> DeploymentStatus {
        status::of(self.deployment, &self.sets, self.new)
    }

    /// Brings the ReplicaSets one step closer to the goal. `has_pods` tells whether any pod of
    /// some ReplicaSets is left.
    pub(super) async fn advance(
        &mut self,
        has_pods: impl Fn(&[ReplicaSet]) -> bool,
    ) -> Result<(), Error> {
        self.note_pause();
        let paused = self.deployment.spec.paused == Some(true);
        if paused || self.was_scaled() {
            self.renew(false).await?;
            self.scale().await?;
            if paused {
                self.clean_up().await?;
            }
            return Ok(());
        }
        if rolling::is_rolling(self.deployment) {
            self.renew(true).await?;
            self.roll().await?;
        } else {
            self.recreate(has_pods).await?;
        }
        if status::is_complete(self.deployment, &self.status()) {
            self.clean_up().await?;
        }
        Ok(())
    }

    fn status_mut(&mut self) -> &mut DeploymentStatus {
        self.deployment.status.get_or_insert_default()
    }

    /// Stops the clock of the progress deadline while the Deployment is paused.
    fn note_pause(&mut self) {
        if condition::deadline(self.deployment).is_none() {
            return;
        }
        let paused = self.deployment.spec.paused == Some(true);
        let progressing = condition::get(self.status_mut(), condition::PROGRESSING);
        let reason = progressing.and_then(|condition| condition.reason.clone());
        let (reason, message) = match (paused, reason.as_deref()) {
            (_, Some(condition::TIMED_OUT)) => return,
            (true, Some("DeploymentPaused")) => return,
            (true, _) => ("DeploymentPaused", "Deployment is paused"),
            (false, Some("DeploymentPaused")) => ("DeploymentResumed", "Deployment is resumed"),
            (false, _) => return,
        };
        condition::set(self.status_mut(), condition::PROGRESSING, "Unknown", reason, message);
    }

    /// Whether the Deployment was given another size since its ReplicaSets were last told.
    fn was_scaled(&self) -> bool {
        let desired = rolling::desired(self.deployment);
        self.sets
            .iter()
            .filter(|set| rolling::size(set) > 0)
            .filter_map(revision::noted_desired)
            .any(|noted| noted != desired)
    }

    fn old(&self) -> impl Iterator<Item = usize> {
        let new = self.new;
        (0..self.sets.len()).filter(move |at| Some(*at) != new)
    }

    /// Makes sure that the ReplicaSet of the current template is there (if `create`), carries the
    /// highest revision and the Deployment's annotations.
    async fn renew(&mut self, create: bool) -> Result<(), Error> {
        let next = self.old().map(|at| revision::of(&self.sets[at])).max().unwrap_or(0) + 1;
        let Some(at) = self.new else {
            return if create { self.create(next).await } else { Ok(()) };
        };
        let mut set = self.sets[at].clone();
        let annotated = revision::annotate(self.deployment, &mut set, next);
        let ready = self.deployment.spec.min_ready_seconds;
        if annotated || set.spec.min_ready_seconds != ready {
            set.spec.min_ready_seconds = ready;
            self.sets[at] = self.replace(&set).await?;
        }
        self.note_revision(at).await?;
        if condition::deadline(self.deployment).is_some()
            && condition::get(self.status_mut(), condition::PROGRESSING).is_none()
        {
            let name = self.sets[at].metadata.name.clone().unwrap_or_default();
            let message = format!("Found new replica set \"{name}\"");
            let kind = condition::PROGRESSING;
            condition::set(self.status_mut(), kind, "True", "FoundNewReplicaSet", message);
        }
        Ok(())
    }

    async fn create(&mut self, next: i64) -> Result<(), Error> {
        let mut set = revision::make_new(self.deployment, next);
        set.metadata.owner_references = Some(vec![controller_reference(&*self.deployment)]);
        let size = rolling::new_size(self.deployment, &self.sets, 0);
        set.spec.replicas = Some(size);
        let key = revision::key(&set);
        let api = self.context.client.namespaced::<ReplicaSet>(&key.namespace);
        let created = match api.create(&PostParams::default(), &set).await {
            Ok(created) => created,
            Err(error) if is_already_exists(&error) => {
                let there = api.get(&key.name).await?;
                if revision::find_new(self.deployment, std::slice::from_ref(&there)).is_none() {
                    // Another template has this hash: count the collision, the next pass will
                    // come to another name.
                    let count = self.status_mut().collision_count.get_or_insert_default();
                    *count += 1;
                    return Err(error);
                }
                there
            }
            Err(error) => {
                self.creation_failed(&key.name, &error);
                return Err(error);
            }
        };
        if size > 0 {
            self.tell_scaled("up", &key.name, 0, size);
        }
        self.sets.push(created);
        self.new = Some(self.sets.len() - 1);
        if condition::deadline(self.deployment).is_some() {
            let message = format!("Created new replica set \"{}\"", key.name);
            let kind = condition::PROGRESSING;
            condition::set(self.status_mut(), kind, "True", "NewReplicaSetCreated", message);
        }
        self.note_revision(self.sets.len() - 1).await
    }

    fn creation_failed(&mut self, name: &str, error: &Error) {
        const REASON: &str = "ReplicaSetCreateError";
        if is_terminating(error) {
            return;
        }
        let message = format!("Failed to create new replica set \"{name}\": {}", text_of(error));
        self.context.recorder.warning(&reference(&*self.deployment), REASON, message.clone());
        if condition::deadline(self.deployment).is_some() {
            condition::set(self.status_mut(), condition::PROGRESSING, "False", REASON, message);
        }
    }

    /// Notes on the Deployment which revision it is at.
    async fn note_revision(&mut self, at: usize) -> Result<(), Error> {
        let revision = revision::of(&self.sets[at]).to_string();
        let annotations = self.deployment.metadata.annotations.get_or_insert_default();
        if annotations.get(revision::REVISION) == Some(&revision) {
            return Ok(());
        }
        annotations.insert(revision::REVISION.to_owned(), revision.clone());
        let meta = &self.deployment.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let api = self.context.client.namespaced::<Deployment>(namespace);
        let patch = serde_json::json!({
            "metadata": {"uid": meta.uid, "annotations": {revision::REVISION: revision}}});
        let name = meta.name.as_deref().unwrap_or_default();
        let patch = client::Patch::Merge(&patch);
        api.patch_status(name, &client::PatchParams::default(), &patch).await.map(drop)
    }

    /// Follows a change of `spec.replicas`.
    async fn scale(&mut self) -> Result<(), Error> {
        let desired = rolling::desired(self.deployment);
        let active: Vec<usize> =
            (0..self.sets.len()).filter(|at| rolling::size(&self.sets[*at]) > 0).collect();
        let latest = || {
            let by_age = |a: &usize, b: &usize| revision::by_age(&self.sets[*a], &self.sets[*b]);
            self.new.or_else(|| (0..self.sets.len()).max_by(by_age))
        };
        match active.as_slice() {
            [] => {
                if let Some(at) = latest() {
                    self.resize(at, desired).await?;
                }
            }
            [only] => self.resize(*only, desired).await?,
            several if self.is_saturated() => {
                let new = self.new;
                for at in several.iter().filter(|at| Some(**at) != new) {
                    self.resize(*at, 0).await?;
                }
            }
            several if rolling::is_rolling(self.deployment) => {
                let sets: Vec<&ReplicaSet> = several.iter().map(|at| &self.sets[*at]).collect();
                let sizes = rolling::proportional(self.deployment, &sets);
                for (at, size) in several.iter().zip(sizes) {
                    self.resize(*at, size).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the new ReplicaSet has all that is wanted, available.
    fn is_saturated(&self) -> bool {
        let desired = rolling::desired(self.deployment);
        self.new.is_some_and(|at| {
            let set = &self.sets[at];
            rolling::size(set) == desired
                && revision::noted_desired(set) == Some(desired)
                && rolling::available(set) == desired
        })
    }

    /// A step of a rolling update: the new one grows, or else the old ones shrink.
    async fn roll(&mut self) -> Result<(), Error> {
        let Some(new) = self.new else { return Ok(()) };
        let now = rolling::size(&self.sets[new]);
        let grown = rolling::new_size(self.deployment, &self.sets, now);
        if grown != now {
            return self.resize(new, grown).await;
        }
        let mut old: Vec<usize> =
            self.old().filter(|at| rolling::size(&self.sets[*at]) > 0).collect();
        old.sort_by(|a, b| revision::by_age(&self.sets[*a], &self.sets[*b]));
        let sets: Vec<&ReplicaSet> = old.iter().map(|at| &self.sets[*at]).collect();
        let sizes = rolling::shrink_old(self.deployment, &self.sets, &self.sets[new], &sets);
        for (at, size) in old.into_iter().zip(sizes) {
            self.resize(at, size).await?;
        }
        Ok(())
    }

    /// Strategy Recreate: all old pods are gone before the first new one comes.
    async fn recreate(&mut self, has_pods: impl Fn(&[ReplicaSet]) -> bool) -> Result<(), Error> {
        self.renew(false).await?;
        let old: Vec<usize> = self.old().collect();
        let mut shrunk = false;
        for at in &old {
            shrunk |= rolling::size(&self.sets[*at]) > 0;
            self.resize(*at, 0).await?;
        }
        let sets: Vec<ReplicaSet> = old.iter().map(|at| self.sets[*at].clone()).collect();
        if shrunk || has_pods(&sets) {
            return Ok(());
        }
        self.renew(true).await?;
        match self.new {
            Some(new) => self.resize(new, rolling::desired(self.deployment)).await,
            None => Ok(()),
        }
    }

    /// Gives a ReplicaSet another size, and tells of it.
    async fn resize(&mut self, at: usize, size: i32) -> Result<(), Error> {
        let before = rolling::size(&self.sets[at]);
        let mut set = self.sets[at].clone();
        set.spec.replicas = Some(size);
        revision::annotate_sizes(self.deployment, &mut set);
        if set == self.sets[at] {
            return Ok(());
        }
        self.sets[at] = self.replace(&set).await?;
        if size != before {
            let direction = if size > before { "up" } else { "down" };
            self.tell_scaled(direction, &revision::key(&set).name, before, size);
        }
        Ok(())
    }

    fn tell_scaled(&self, direction: &str, set: &str, from: i32, to: i32) {
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.context.recorder.normal(&reference(&*self.deployment), "ScalingReplicaSet", message);
    }

    async fn replace(&self, set: &ReplicaSet) -> Result<ReplicaSet, Error> {
        let key = revision::key(set);
        let api = self.context.client.namespaced::<ReplicaSet>(&key.namespace);
        api.replace(&key.name, &PostParams::default(), set).await
    }

    /// Deletes the oldest ReplicaSets beyond the history limit.
    async fn clean_up(&mut self) -> Result<(), Error> {
        let Some(limit) = self.deployment.spec.revision_history_limit else { return Ok(()) };
        let mut old: Vec<&ReplicaSet> = self
            .old()
            .map(|at| &self.sets[at])
            .filter(|set| set.metadata.deletion_timestamp.is_none())
            .collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|set| revision::of(set));
        for set in old.into_iter().take(surplus).filter(|set| is_idle(set)) {
            let key = revision::key(set);
            let api = self.context.client.namespaced::<ReplicaSet>(&key.namespace);
            match api.delete(&key.name, &DeleteParams::default()).await {
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a ReplicaSet has no pods and its status is known to say so.
fn is_idle(set: &ReplicaSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    rolling::size(set) == 0
        && status.replicas == 0
        && status.observed_generation >= set.metadata.generation
}
