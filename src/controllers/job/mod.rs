//! Job: runs pods until enough of them have succeeded, or too many have failed.

mod backoff;
mod condition;
mod indexes;
mod orphans;
mod pass;
mod pods;
mod policy;
mod ttl;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use apimachinery::{Key, Object, selector::labels::Selector};
use client::{
    Change, Error, Informer, Informers, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
    is_not_found,
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use self::{
    pass::{Pass, Step},
    pods::{FINALIZER, JobPod, prepare},
};
use crate::{
    Context,
    expectations::Expectations,
    ownership::{
        claim, concerned, controller_key, controller_reference, index_orphans, queue_adopters,
        selector_of,
    },
    pod_batch::{BURST, create_all, delete_all},
    pod_control::{PodControl, is_terminating},
    status_patch::status_patch,
};

const KIND: &str = "Job";
/// `spec.managedBy` of Jobs that are this controller's.
const NAME: &str = "kubernetes.io/job-controller";
/// Requests under way at a time.
const PARALLEL: usize = 16;

struct Controller {
    context: Context,
    jobs: Informer,
    pods: Informer,
    expectations: Expectations,
    records: backoff::Records,
    /// Pods whose finalizer was removed, until the cache shows it: they must not be counted again.
    released: Mutex<HashMap<Key, HashSet<Box<str>>>>,
    /// The revision that each Job's status was last written at. A cache that is older must not be
    /// acted on: it would count and create anew.
    written: Mutex<HashMap<Key, u64>>,
    queue: Arc<WorkQueue<Key>>,
    orphans: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        jobs: context.informers.of::<Job>(),
        pods: context.informers.of::<Pod>(),
        expectations: Expectations::default(),
        records: backoff::Records::default(),
        released: Mutex::default(),
        written: Mutex::default(),
        queue: Arc::new(WorkQueue::new()),
        orphans: Arc::new(WorkQueue::new()),
        context,
    });
    index_orphans(&controller.pods);
    orphans::index(&controller.pods);
    let this = controller.clone();
    controller.jobs.on_change(move |change| {
        this.queue.add(change.object().key.clone());
        if let Change::Delete(job) = change {
            this.queue_orphans(&job.uid);
        }
    });
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    Informers::synced(&[&controller.jobs, &controller.pods]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    let this = controller.clone();
    let free = move |key| {
        let this = this.clone();
        async move { this.free_orphan(key).await }
    };
    let context = &controller.context;
    tokio::join!(
        context.work(controller.queue.clone(), 5, work),
        context.work(controller.orphans.clone(), 1, free),
    );
}

impl Controller {
    fn pod_changed(&self, change: &Change) {
        self.expectations.saw(change, KIND);
        let pod = change.object();
        let owner = controller_key(pod, KIND);
        if let Some(owner) = &owner {
            self.release_seen(owner, change);
        }
        concerned(change, KIND).for_each(|owner| self.queue.add(owner));
        let orphaned = match owner {
            Some(_) => pod.deleting,
            None => pod.controller().is_none() && pod.label(orphans::LABEL).is_some(),
        };
        if orphaned {
            self.orphans.add(pod.key.clone());
        }
        if pod.controller().is_none() {
            let selector = |job: Job| selector_of(job.spec?.selector.as_ref()?);
            queue_adopters(&self.jobs, pod, &self.queue, selector);
        }
    }

    /// Forgets that a pod was released once the cache shows it.
    fn release_seen(&self, owner: &Key, change: &Change) {
        let mut all = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(released) = all.get_mut(owner) else { return };
        let pod = change.object();
        if released.contains(&pod.uid)
            && (matches!(change, Change::Delete(_)) || !orphans::is_tracked(pod))
        {
            released.remove(&pod.uid);
            if released.is_empty() {
                all.remove(owner);
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.jobs.get(&key) else {
            self.forget(&key);
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let job: Job = object.parse()?;
        if is_managed_elsewhere(&job) {
            return Ok(Action::Done);
        }
        if condition::finished(&job).is_some() {
            self.forget(&key);
            self.queue_orphans(&object.uid);
            return ttl::expire(&self.context.client, &job).await;
        }
        let written =
            self.written.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if written.is_some_and(|written| object.revision < written) {
            // What was written will come by the watch, and the key with it.
            return Ok(Action::Done);
        }
        let selector = job.spec.as_ref().and_then(|spec| selector_of(spec.selector.as_ref()?));
        let Some(selector) = selector else { return Ok(Action::Done) };
        // Asked before the pods are read: what is seen from here on is in the cache.
        let settled = self.expectations.satisfied(&key);
        let released = self.released_of(&key);
        let pods = self.pods_of(&key, &job, &selector).await?;
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let mut pass = Pass::new(job, pods, released, self.records.get(&key), now);
        let mut again = pass.evaluate();
        let managed = if pass.finished.is_some() {
            self.stop(&mut pass, settled).await
        } else {
            let acts = settled && !object.deleting;
            let managed = match acts {
                true => self.manage(&key, &mut pass).await,
                false => Ok(Action::Done),
            };
            if let Ok(Action::Again(wait)) = &managed {
                again = Some(again.map_or(*wait, |again| again.min(*wait)));
            }
            pass.complete();
            if acts && pass.finished.is_none() {
                self.note_suspension(&mut pass);
            }
            managed.map(drop)
        };
        self.track(&key, &mut pass).await?;
        match managed {
            Err(error) if !is_terminating(&error) => Err(error.into()),
            _ => Ok(again.map_or(Action::Done, Action::Again)),
        }
    }

    fn released_of(&self, key: &Key) -> HashSet<Box<str>> {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.get(key).cloned().unwrap_or_default()
    }

    fn forget(&self, key: &Key) {
        self.records.forget(key);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.released.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The Job's pods, adopted ones with the finalizer that makes them count.
    async fn pods_of(
        &self,
        key: &Key,
        job: &Job,
        selector: &Selector,
    ) -> Result<Vec<JobPod>, Error> {
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        let claimed = claim(job, selector, &self.pods, &api).await?;
        let mut pods = Vec::with_capacity(claimed.len());
        for mut pod in claimed.into_iter().filter_map(JobPod::read) {
            if pod.object.controller().is_none() && !pod.tracked {
                let patch = json!({"metadata": {"uid": pod.object.uid, "finalizers": [FINALIZER]}});
                let patch = Patch::Strategic(&patch);
                api.patch(&pod.object.key.name, &PatchParams::default(), &patch).await?;
                pod.tracked = true;
            }
            pods.push(pod);
        }
        Ok(pods)
    }

    fn control<'a>(&'a self, job: &'a Job) -> PodControl<'a, Job> {
        PodControl { client: &self.context.client, recorder: &self.context.recorder, owner: job }
    }

    /// Deletes the pods of a Job that is over. They keep their finalizers until they are counted.
    async fn stop(&self, pass: &mut Pass, settled: bool) -> Result<(), Error> {
        let active: Vec<(Arc<Object>, bool)> = pass
            .active_pods()
            .iter()
            .map(|pod| (pod.object.clone(), pod.facts.ready.is_some()))
            .collect();
        let count = active.len();
        let control = self.control(&pass.job);
        let deleted: Vec<(bool, Result<(), Error>)> = stream::iter(active)
            .map(async |(pod, ready)| (ready, control.delete(&pod).await))
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let (mut gone, mut ready_gone, mut outcome) = (0, 0, Ok(()));
        for (ready, result) in deleted {
            match result {
                Ok(()) => {
                    gone += 1;
                    ready_gone += i32::from(ready);
                }
                Err(error) => outcome = Err(error),
            }
        }
        if gone != count || !settled {
            // Pods may be left, or not be in the cache yet: it is not over.
            pass.finished = None;
        }
        leave(pass, gone, ready_gone);
        outcome
    }

    /// Creates or deletes pods. Returns when to look again.
    async fn manage(&self, key: &Key, pass: &mut Pass) -> Result<Action, Error> {
        match pass.step(BURST) {
            Step::Nothing => Ok(Action::Done),
            Step::Wait(wait) => Ok(Action::Again(wait)),
            Step::Delete(pods) => self.delete(key, pass, pods).await.map(|()| Action::Done),
            Step::Create(indexes) => self.create(key, pass, &indexes).await.map(|()| Action::Done),
        }
    }

    async fn create(
        &self,
        key: &Key,
        pass: &mut Pass,
        indexes: &[Option<i32>],
    ) -> Result<(), Error> {
        let control = self.control(&pass.job);
        let blank = control.pod(&pass.spec.template, controller_reference(&pass.job));
        let pods = indexes.iter().map(|index| {
            let mut pod = blank.clone();
            let failures = index.and_then(|index| pass.failures_before(index));
            prepare(&mut pod, &pass.job, *index, failures);
            pod
        });
        let (created, outcome) =
            create_all(&control, &self.expectations, key, pods.collect()).await;
        pass.active += i32::try_from(created).unwrap_or(i32::MAX);
        outcome
    }

    /// Deletes pods that are too many. Without their finalizer they do not count as failed.
    async fn delete(
        &self,
        key: &Key,
        pass: &mut Pass,
        pods: Vec<Arc<Object>>,
    ) -> Result<(), Error> {
        let (freed, freeing) = self.free(key, pods).await;
        let control = self.control(&pass.job);
        let (gone, outcome) = delete_all(&control, &self.expectations, key, freed).await;
        let ready: HashSet<&str> = pass
            .active_pods()
            .iter()
            .filter(|pod| pod.facts.ready.is_some())
            .map(|pod| &*pod.object.uid)
            .collect();
        let ready = gone.iter().filter(|pod| ready.contains(&*pod.uid)).count();
        leave(pass, gone.len(), i32::try_from(ready).unwrap_or(0));
        freeing.and(outcome)
    }

    fn note_suspension(&self, pass: &mut Pass) {
        let (suspended, now) = (pass.suspended(), pass.now);
        let wanted = match suspended {
            true => condition::new(condition::SUSPENDED, "JobSuspended", "Job suspended", now),
            false => JobCondition {
                status: "False".to_owned(),
                ..condition::new(condition::SUSPENDED, "JobResumed", "Job resumed", now)
            },
        };
        let mut conditions = pass.status.conditions.take().unwrap_or_default();
        let changed = condition::set(&mut conditions, wanted);
        pass.status.conditions = Some(conditions).filter(|conditions| !conditions.is_empty());
        if changed {
            // The deadline counts from when the Job last went on.
            pass.status.start_time = (!suspended).then_some(Time(now));
            let (reason, message) = match suspended {
                true => ("Suspended", "Job suspended"),
                false => ("Resumed", "Job resumed"),
            };
            self.context.recorder.normal(&reference(&pass.job), reason, message);
        }
    }

    /// Notes pods that ended in the status, removes their finalizers, counts them, and says that
    /// the Job is over if it is.
    async fn track(&self, key: &Key, pass: &mut Pass) -> Result<(), ReconcileError> {
        let (releasing, all) = pass.account();
        self.write_status(key, pass).await?;
        self.records.set(key, pass.record);
        let waiting = pass.pods.iter().filter(|pod| pod.tracked);
        let mut waiting: HashSet<Box<str>> = waiting.map(|pod| pod.object.uid.clone()).collect();
        let (freed, outcome) = self.free(key, releasing).await;
        let freed: HashSet<Box<str>> = freed.iter().map(|pod| pod.uid.clone()).collect();
        waiting.retain(|uid| !freed.contains(uid));
        let released = self.released_of(key);
        waiting.retain(|uid| !released.contains(uid));
        pass.settle(&waiting);
        if let Err(error) = outcome {
            self.write_status(key, pass).await?;
            return Err(error.into());
        }
        let finished = all && pass.finish();
        self.write_status(key, pass).await?;
        if finished {
            self.tell_finished(pass);
        }
        Ok(())
    }

    fn tell_finished(&self, pass: &Pass) {
        let (recorder, about) = (&self.context.recorder, reference(&pass.job));
        let Some(finished) = &pass.finished else { return };
        if finished.type_ == condition::COMPLETE {
            if pass.spec.completions.is_some_and(|wanted| pass.succeeded > wanted) {
                let message = "Too many succeeded pods running after completion count reached";
                recorder.warning(&about, "TooManySucceededPods", message);
            }
            recorder.normal(&about, "Completed", "Job completed");
        } else {
            let reason = finished.reason.as_deref().unwrap_or_default();
            recorder.warning(&about, reason, finished.message.clone().unwrap_or_default());
        }
    }

    /// Removes the finalizer from `pods`. Returns those that have none any more.
    async fn free(
        &self,
        key: &Key,
        pods: Vec<Arc<Object>>,
    ) -> (Vec<Arc<Object>>, Result<(), Error>) {
        if pods.is_empty() {
            return (pods, Ok(()));
        }
        {
            let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
            let uids = pods.iter().filter(|pod| orphans::is_tracked(pod)).map(|p| p.uid.clone());
            released.entry(key.clone()).or_default().extend(uids);
        }
        let results: Vec<(Arc<Object>, Result<(), Error>)> = stream::iter(pods)
            .map(async |pod| (pod.clone(), orphans::untrack(&self.context.client, &pod).await))
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let (mut freed, mut outcome) = (Vec::with_capacity(results.len()), Ok(()));
        for (pod, result) in results {
            match result {
                Ok(()) => freed.push(pod),
                Err(error) => {
                    let mut all = self.released.lock().unwrap_or_else(PoisonError::into_inner);
                    all.get_mut(key).map(|released| released.remove(&pod.uid));
                    outcome = Err(error);
                }
            }
        }
        (freed, outcome)
    }

    /// Writes the status if it changed, over nothing but the revision that it was computed from.
    async fn write_status(&self, key: &Key, pass: &mut Pass) -> Result<(), ReconcileError> {
        let before: JobStatus = pass.job.status.clone().unwrap_or_default();
        if before == pass.status {
            return Ok(());
        }
        let mut patch = status_patch(&pass.job.metadata, &before, &pass.status)?;
        patch["metadata"]["resourceVersion"] = json!(pass.job.metadata.resource_version);
        let api = self.context.client.namespaced::<Job>(&key.namespace);
        let written =
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        let written = match written {
            Err(error) if is_not_found(&error) => return Ok(()),
            written => written?,
        };
        let revision = written.metadata.resource_version.as_deref().and_then(|v| v.parse().ok());
        if let Some(revision) = revision {
            let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(key.clone(), revision);
        }
        pass.job.metadata = written.metadata;
        pass.job.status = Some(pass.status.clone());
        Ok(())
    }
}

/// Counts pods that were just deleted as terminating.
fn leave(pass: &mut Pass, gone: usize, ready: i32) {
    let gone = i32::try_from(gone).unwrap_or(i32::MAX);
    pass.active -= gone;
    pass.terminating += gone;
    pass.ready -= ready;
}

fn is_managed_elsewhere(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_some_and(|manager| manager != NAME)
}
