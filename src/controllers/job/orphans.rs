//! Pods whose Job is gone, or no longer theirs, lose the finalizer that would keep them for ever.

use apimachinery::{Key, Object};
use client::{
    Client, Error, Informer,
    controller::{Action, ReconcileError},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

use super::{Controller, condition, is_managed_elsewhere, pods::FINALIZER};
use crate::finalizers;

/// The label with the UID of a pod's Job.
pub(super) const LABEL: &str = "batch.kubernetes.io/controller-uid";
/// Index of pods by that label.
const BY_JOB: &str = "job";

/// Adds the index by Job, owned or not.
pub(super) fn index(pods: &Informer) {
    pods.add_index(BY_JOB, |pod| pod.label(LABEL).map(Into::into).into_iter().collect());
}

/// Whether `pod` has the finalizer.
pub(super) fn is_tracked(pod: &Object) -> bool {
    finalizers::has(pod, FINALIZER)
}

/// Removes the finalizer, unless the pod has none or is gone.
pub(super) async fn untrack(client: &Client, pod: &Object) -> Result<(), Error> {
    finalizers::remove(&client.namespaced::<Pod>(&pod.key.namespace), pod, FINALIZER).await
}

impl Controller {
    /// Queues the pods of the Job with this UID.
    pub(super) fn queue_orphans(&self, job: &str) {
        self.pods.indexed(BY_JOB, job).iter().for_each(|pod| self.orphans.add(pod.key.clone()));
    }

    pub(super) async fn free_orphan(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Action::Done) };
        if let Some(owner) = pod.controller() {
            if &*owner.kind != "Job" {
                return Ok(Action::Done);
            }
            let job = self.jobs.get(&Key::new(key.namespace.clone(), owner.name.clone()));
            if let Some(job) = job.filter(|job| job.uid == owner.uid) {
                let job: Job = job.parse()?;
                if is_managed_elsewhere(&job) || condition::finished(&job).is_none() {
                    return Ok(Action::Done);
                }
            }
        }
        untrack(&self.context.client, &pod).await?;
        Ok(Action::Done)
    }
}
