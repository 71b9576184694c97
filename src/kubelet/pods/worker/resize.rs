//! Resizes of the pod of a worker: grants them, brings them about, tells of them.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodCondition, ResourceRequirements};
use tokio::time::Instant;
use tracing::warn;

use super::{Running, Worker};
use crate::{
    pods::{
        mailbox::{Outcome, Progress},
        resize::{self, Allocation, Plan, Record},
        view::PodView,
    },
    podspec::{PodExt, pod_reference},
    resources::cgroups::pod_resources,
    status::conditions::{condition, find},
};

const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";
/// A resize that could not be brought about is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);

/// What a worker knows of resizes of its pod.
#[derive(Default)]
pub(super) struct Resizing {
    record: Record,
    /// The generation of the pod that asks for nothing but what was granted.
    settled: Option<i64>,
    pending: Option<PodCondition>,
    in_progress: Option<PodCondition>,
    /// The record has changed and is to be written.
    unwritten: bool,
    retry: Option<Instant>,
}

impl Resizing {
    /// The conditions that tell of resizes.
    pub(super) fn conditions(&self) -> impl Iterator<Item = PodCondition> {
        [self.pending.clone(), self.in_progress.clone()].into_iter().flatten()
    }

    /// The pod's sandbox is made anew, with what was granted.
    pub(super) fn new_sandbox(&mut self) {
        self.record.cgroup = None;
        self.record.level = None;
        self.record.resized.clear();
    }
}

impl Worker {
    /// Takes in a pod that this node has not had before.
    pub(super) fn grant_all(&mut self, pod: &Pod) {
        self.resizing.record = Record::new(Allocation::of(pod));
        self.resizing.settled = Some(pod.generation());
    }

    /// Takes in a pod that runs.
    pub(super) fn recall_grants(&mut self, pod: &Pod) {
        let view = self.look(pod);
        let read = Record::read(&self.shared.folders.pod(&self.uid));
        let known = read.unwrap_or_else(|| Record::new(Allocation::running(pod, &view)));
        self.observer.resized = known.resized.clone().into_iter().collect();
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref());
        let conditions = conditions.unwrap_or_default();
        self.resizing = Resizing {
            record: known,
            pending: find(conditions, PENDING).cloned(),
            in_progress: find(conditions, IN_PROGRESS).cloned(),
            ..Resizing::default()
        };
    }

    /// The pod with the resources that it was granted.
    pub(super) fn granted(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if self.resizing.settled == Some(pod.generation()) {
            return pod.clone();
        }
        let mut granted = Pod::clone(pod);
        self.resizing.record.allocation.apply(&mut granted);
        Arc::new(granted)
    }

    /// Grants what a pod asks for if there is room for it.
    pub(super) fn consider_resize(&mut self, pod: &Arc<Pod>) {
        let generation = pod.generation();
        if self.resizing.settled == Some(generation) {
            return;
        }
        let wanted = Allocation::of(pod);
        if wanted == self.resizing.record.allocation {
            self.resizing.settled = Some(generation);
            self.resizing.pending = None;
            return;
        }
        let reference = pod_reference(pod);
        let recorder = &self.shared.recorder;
        match self.shared.ledger.resize(pod, &self.shared.machine.allocatable, &self.mailbox) {
            Ok(()) => {
                self.resizing.record.allocation = wanted;
                self.resizing.settled = Some(generation);
                self.resizing.pending = None;
                self.resizing.in_progress = Some(condition(pod, IN_PROGRESS, true, "", ""));
                self.resizing.unwritten = true;
                self.resizing.retry = None;
                let message = resize::message("Pod resize started", pod, generation, "");
                recorder.normal(&reference, "ResizeStarted", message);
            }
            Err(lack) => {
                let why = resize::lacking(&lack.name, lack.want, lack.held, lack.have);
                let new = condition(pod, PENDING, true, "Deferred", &why);
                let told = self.resizing.pending.as_ref().is_some_and(|old| {
                    old.observed_generation == new.observed_generation && old.reason == new.reason
                });
                if !told {
                    let message = resize::message("Pod resize Deferred", pod, generation, &why);
                    recorder.warning(&reference, "ResizeDeferred", message);
                }
                self.resizing.pending = Some(new);
            }
        }
    }

    /// What has to be done to give the pod what it was granted. Tells when nothing is left to do.
    pub(super) fn plan_resize(&mut self, pod: &Arc<Pod>, view: &PodView) -> Plan {
        let Some(sandbox) = self.sandbox().filter(|_| view.sandbox) else { return Plan::default() };
        let plan = resize::plan(pod, self.resizing.record.level.as_ref(), view);
        let target = pod_resources(pod, self.shared.config.pod_pids_limit);
        let present = self.resizing.record.cgroup.as_ref().unwrap_or(&sandbox.spec().resources);
        let done = plan == Plan::default() && !resize::differs(present, &target);
        if !done {
            let begun = self.resizing.in_progress.is_some();
            if !begun {
                self.resizing.in_progress = Some(condition(pod, IN_PROGRESS, true, "", ""));
            }
        } else if let Some(done) = self.resizing.in_progress.take() {
            let generation = done.observed_generation.unwrap_or_default();
            let message = resize::message("Pod resize completed", pod, generation, "");
            self.shared.recorder.normal(&pod_reference(pod), "ResizeCompleted", message);
        }
        plan
    }

    /// Brings a resize about, if there is anything to do that does not need a restart. Answers
    /// whether it began, or when to try again.
    pub(super) fn resize(&mut self, pod: &Arc<Pod>, plan: &Plan) -> Result<bool, Instant> {
        let Some(sandbox) = self.sandbox() else { return Ok(false) };
        let to = pod_resources(pod, self.shared.config.pod_pids_limit);
        let from = self.resizing.record.cgroup.clone();
        let from = from.unwrap_or_else(|| sandbox.spec().resources.clone());
        let differs = resize::differs(&from, &to);
        if !self.resizing.unwritten && plan.updates.is_empty() && !differs {
            return Ok(false);
        }
        if !plan.restarts.is_empty() && !resize::grows(&from, &to) {
            // A pod shrinks when its containers have ended.
            return Ok(false);
        }
        if let Some(retry) = self.resizing.retry.filter(|retry| *retry > Instant::now()) {
            return Err(retry);
        }
        self.resizing.unwritten = false;
        let mut record = self.resizing.record.clone();
        let (updates, mailbox) = (plan.updates.clone(), self.mailbox.clone());
        let dir = self.shared.folders.pod(&self.uid);
        let level = pod.spec_or_empty().resources.clone();
        let task = tokio::spawn(async move {
            write(&record, &dir).await;
            let progress = match resize::actuate(&sandbox, &from, &to, &updates).await {
                Ok(()) => {
                    record.cgroup = Some(to);
                    record.level = level;
                    record.resized.extend(updates.into_iter().map(|u| (u.id, u.resources)));
                    write(&record, &dir).await;
                    Progress::Resized(record)
                }
                Err(why) => Progress::NotResized(why),
            };
            mailbox.leave(|inbox| {
                inbox.progress.push(progress);
                inbox.done = Some(Outcome::default());
            });
        });
        self.operation = Some(Running::new(task));
        Ok(true)
    }

    /// A resize was brought about.
    pub(super) fn resized(&mut self, record: Record) {
        self.observer.resized.extend(record.resized.clone());
        // Meanwhile more may have been granted.
        let allocation = std::mem::take(&mut self.resizing.record.allocation);
        self.resizing.record = Record { allocation, ..record };
        self.resizing.retry = None;
    }

    /// A resize could not be brought about.
    pub(super) fn not_resized(&mut self, why: &str) {
        self.resizing.retry = Some(Instant::now() + RETRY);
        let Some(pod) = self.pod() else { return };
        let pod = self.granted(&pod);
        let told = self.resizing.in_progress.as_ref();
        let generation =
            told.and_then(|c| c.observed_generation).unwrap_or_else(|| pod.generation());
        if told.is_some_and(|told| told.message.as_deref() == Some(why)) {
            return;
        }
        let mut told = condition(&pod, IN_PROGRESS, true, "Error", why);
        told.observed_generation = Some(generation);
        self.resizing.in_progress = Some(told);
        let message = resize::message("Pod resize error", &pod, generation, why);
        self.shared.recorder.warning(&pod_reference(&pod), "ResizeError", message);
    }

    /// The resources that are in force for the pod as a whole.
    pub(super) fn resources_in_force(&self, pod: &Pod) -> ResourceRequirements {
        let sandbox = self.sandbox().filter(|_| self.status.phase.as_deref() == Some("Running"));
        let made_with = sandbox.as_ref().map(|sandbox| &sandbox.spec().resources);
        let in_force = self.resizing.record.cgroup.as_ref().or(made_with);
        resize::in_force(pod, in_force.filter(|_| made_with.is_some()))
    }

    /// Nothing is resized any more.
    pub(super) fn end_resizing(&mut self) {
        self.resizing.pending = None;
        self.resizing.in_progress = None;
    }
}

/// Keeps a record for the kubelet after this one.
async fn write(record: &Record, dir: &std::path::Path) {
    let (record, dir) = (record.clone(), dir.to_owned());
    let written = tokio::task::spawn_blocking(move || record.write(&dir)).await;
    if let Ok(Err(error)) = written {
        warn!(%error, "record of resources not written");
    }
}
