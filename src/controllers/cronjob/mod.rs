//! CronJob: makes Jobs at the times of a schedule, and keeps few of those that are over.

mod schedule;

use std::sync::Arc;

use apimachinery::{Key, Object};
use client::{
    Change, DeleteParams, Error, Informer, Informers, PostParams, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
    informer::parse_or_warn,
    is_already_exists, is_not_found,
};
use cron::Schedule;
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use tracing::debug;

use self::schedule::Times;
use crate::{
    Context,
    ownership::{concerned, controller_reference},
    pod_control::{is_terminating, text_of},
    status_patch::write_status_at,
};

const KIND: &str = "CronJob";
/// Annotation of a Job: the time that it was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct Controller {
    context: Context,
    cron_jobs: Informer,
    jobs: Informer,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        cron_jobs: context.informers.of::<CronJob>(),
        jobs: context.informers.of::<Job>(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    let this = controller.clone();
    controller.cron_jobs.on_change(move |change| this.changed(change));
    let queue = controller.queue.clone();
    controller.jobs.on_change(move |change| {
        concerned(change, KIND).for_each(|key| queue.add(key));
    });
    Informers::synced(&[&controller.cron_jobs, &controller.jobs]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(controller.queue.clone(), 5, work).await;
}

/// A CronJob with what a pass finds out about it.
struct Pass {
    cron_job: CronJob,
    /// The status as it was read, and as it will be written.
    before: CronJobStatus,
    status: CronJobStatus,
    now: Timestamp,
}

impl Pass {
    fn new(cron_job: CronJob, now: Timestamp) -> Self {
        let before = cron_job.status.clone().unwrap_or_default();
        Self { status: before.clone(), before, cron_job, now }
    }

    fn active(&self) -> &[ObjectReference] {
        self.status.active.as_deref().unwrap_or_default()
    }

    fn is_active(&self, job: &Job) -> bool {
        self.active().iter().any(|active| active.uid == job.metadata.uid)
    }

    fn forget(&mut self, uid: Option<&str>) {
        let active = self.status.active.get_or_insert_default();
        active.retain(|job| job.uid.as_deref() != uid);
        self.status.active.take_if(|active| active.is_empty());
    }

    fn namespace(&self) -> &str {
        self.cron_job.metadata.namespace.as_deref().unwrap_or_default()
    }
}

impl Controller {
    fn changed(&self, change: &Change) {
        let new = change.object();
        // A changed schedule counts from now on: what it would have missed is not made up for.
        if let Some(old) = change.previous()
            && let (Some(old), Some(new_job)) = (parse_or_warn(old), parse_or_warn::<CronJob>(new))
            && is_rescheduled(&old, &new_job)
            && let Ok(times) = self.times(&new_job)
        {
            if let Some(wait) = times.wait(&new_job, Timestamp::now()) {
                self.queue.add_after(new.key.clone(), wait);
            }
            return;
        }
        self.queue.add(new.key.clone());
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(cron_job) = self.cron_jobs.get_as::<CronJob>(&key.namespace, &key.name) else {
            return Ok(Action::Done);
        };
        let uid = cron_job.metadata.uid.clone().unwrap_or_default();
        let owned = self.jobs.owned_by(&uid);
        let is_ours = |job: &Arc<Object>| job.controller().is_some_and(|owner| *owner.uid == *uid);
        let jobs: Vec<Job> =
            owned.iter().filter(|job| is_ours(job)).filter_map(|job| parse_or_warn(job)).collect();
        let mut pass = Pass::new(cron_job, Timestamp::now());
        self.clean_up(&mut pass, &jobs).await;
        let outcome = self.sync(&mut pass, &jobs).await;
        // A job that is not noted in it would be started again: no write over a newer version.
        let client = &self.context.client;
        write_status_at(client, &pass.cron_job, &pass.before, &pass.status).await?;
        outcome
    }

    async fn sync(&self, pass: &mut Pass, jobs: &[Job]) -> Result<Action, ReconcileError> {
        self.observe(pass, jobs).await?;
        self.find_missing(pass, jobs).await?;
        let suspended = pass.cron_job.spec.suspend == Some(true);
        if suspended || pass.cron_job.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let times = match self.times(&pass.cron_job) {
            Ok(times) => times,
            Err((reason, text)) => {
                self.context.recorder.warning(&reference(&pass.cron_job), reason, text);
                return Ok(Action::Done);
            }
        };
        if let Some(due) = self.due(pass, &times) {
            self.start(pass, due).await?;
        }
        Ok(times.wait(&pass.cron_job, pass.now).map_or(Action::Done, Action::Again))
    }

    /// The schedule, or why there is none: reason and text of an event.
    fn times(&self, cron_job: &CronJob) -> Result<Times, (&'static str, String)> {
        let (text, zone) = (&cron_job.spec.schedule, cron_job.spec.time_zone.as_deref());
        let zone = match zone.map(cron::zone) {
            None => cron::local_zone(),
            Some(Ok(zone)) => zone,
            Some(Err(error)) => {
                let name = zone.unwrap_or_default();
                return Err(("UnknownTimeZone", format!("invalid timeZone: \"{name}\": {error}")));
            }
        };
        if text.contains("TZ") {
            let text = format!(
                "CRON_TZ or TZ used in schedule \"{text}\" is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more \
                 details"
            );
            self.context.recorder.warning(&reference(cron_job), "UnsupportedSchedule", text);
        }
        match Schedule::parse(text) {
            Ok(schedule) => Ok(Times { schedule, zone }),
            Err(error) => {
                Err(("UnparseableSchedule", format!("unparseable schedule: \"{text}\" : {error}")))
            }
        }
    }

    /// Takes note of what became of the jobs.
    async fn observe(&self, pass: &mut Pass, jobs: &[Job]) -> Result<(), Error> {
        let about = reference(&pass.cron_job);
        for job in jobs {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let Some(outcome) = outcome(job) else {
                if pass.is_active(job) {
                    continue;
                }
                // The cache may lag behind our own note of it.
                let api = self.context.client.namespaced::<CronJob>(pass.namespace());
                let live = api.get(pass.cron_job.metadata.name.as_deref().unwrap_or_default());
                let fresh = Pass::new(live.await?, pass.now);
                if fresh.is_active(job) {
                    *pass = fresh;
                } else {
                    let text =
                        format!("Saw a job that the controller did not create or forgot: {name}");
                    self.context.recorder.warning(&about, "UnexpectedJob", text);
                }
                continue;
            };
            if pass.is_active(job) {
                pass.forget(job.metadata.uid.as_deref());
                let text = format!("Saw completed job: {name}, condition: {outcome}");
                self.context.recorder.normal(&about, "SawCompletedJob", text);
            }
            let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
            let last = pass.status.last_successful_time.as_ref().map(|time| time.0);
            if outcome == "Complete" && completed.as_ref().map(|time| time.0) > last {
                pass.status.last_successful_time = completed;
            }
        }
        Ok(())
    }

    /// Forgets active jobs that are gone.
    async fn find_missing(&self, pass: &mut Pass, jobs: &[Job]) -> Result<(), Error> {
        for active in pass.active().to_vec() {
            if jobs.iter().any(|job| job.metadata.uid == active.uid) {
                continue;
            }
            let name = active.name.as_deref().unwrap_or_default();
            // The cache may not know it yet.
            match self.context.client.namespaced::<Job>(pass.namespace()).get(name).await {
                Err(error) if is_not_found(&error) => {
                    let text = format!("Active job went missing: {name}");
                    self.context.recorder.normal(&reference(&pass.cron_job), "MissingJob", text);
                    pass.forget(active.uid.as_deref());
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// The time for which a job is to be made now.
    fn due(&self, pass: &Pass, times: &Times) -> Option<Timestamp> {
        let (cron_job, recorder) = (&pass.cron_job, &self.context.recorder);
        let about = reference(cron_job);
        let missed = times.missed(cron_job, pass.now);
        let due = missed.latest?;
        if missed.many {
            let text = "too many missed start times. Set or decrease \
                        .spec.startingDeadlineSeconds or check clock skew";
            recorder.warning(&about, "TooManyMissedTimes", text);
        }
        let deadline = cron_job.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        let end = deadline.and_then(|deadline| due.checked_add(deadline).ok());
        if end.is_some_and(|end| end < pass.now) {
            let time = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let text = format!("Missed scheduled time to start a job: {time}");
            recorder.warning(&about, "MissSchedule", text);
            return None;
        }
        let name = job_name(cron_job, due);
        let served = pass.status.last_schedule_time.as_ref().map(|time| time.0) == Some(due);
        if served || pass.active().iter().any(|job| job.name.as_ref() == Some(&name)) {
            return None;
        }
        let forbids = cron_job.spec.concurrency_policy.as_deref() == Some("Forbid");
        if forbids && !pass.active().is_empty() {
            let text = "Not starting job because prior execution is running and concurrency \
                        policy is Forbid";
            recorder.normal(&about, "JobAlreadyActive", text);
            return None;
        }
        Some(due)
    }

    /// Makes the job for `due`.
    async fn start(&self, pass: &mut Pass, due: Timestamp) -> Result<(), ReconcileError> {
        let about = reference(&pass.cron_job);
        let recorder = &self.context.recorder;
        if pass.cron_job.spec.concurrency_policy.as_deref() == Some("Replace") {
            for active in pass.active().to_vec() {
                let name = active.name.as_deref().unwrap_or_default();
                if !self.delete(pass, name, active.uid.as_deref()).await {
                    let namespace = pass.namespace();
                    let text = format!("could not replace job {namespace}/{name}");
                    return Err(ReconcileError::Other(text));
                }
            }
        }
        let job = new_job(&pass.cron_job, due);
        let api = self.context.client.namespaced::<Job>(pass.namespace());
        let made = match api.create(&PostParams::default(), &job).await {
            Ok(made) => {
                let name = made.metadata.name.as_deref().unwrap_or_default();
                recorder.normal(&about, "SuccessfulCreate", format!("Created job {name}"));
                made
            }
            Err(error) if is_already_exists(&error) => {
                let there = api.get(job.metadata.name.as_deref().unwrap_or_default()).await?;
                let owners = there.metadata.owner_references.iter().flatten();
                let mut ours = owners.filter(|owner| owner.controller == Some(true));
                if !ours.any(|owner| Some(&owner.uid) == pass.cron_job.metadata.uid.as_ref()) {
                    debug!(job = there.metadata.name, "somebody else has a job of that name");
                    return Ok(());
                }
                there
            }
            Err(error) if is_terminating(&error) => return Ok(()),
            Err(error) => {
                let text = format!("Error creating job: {}", text_of(&error));
                recorder.warning(&about, "FailedCreate", text);
                return Err(error.into());
            }
        };
        pass.status.active.get_or_insert_default().push(reference(&made));
        pass.status.last_schedule_time = Some(Time(due));
        pass.cron_job.status.get_or_insert_default().last_schedule_time = Some(Time(due));
        Ok(())
    }

    /// Deletes a job with its pods. Returns whether it is gone.
    async fn delete(&self, pass: &mut Pass, name: &str, uid: Option<&str>) -> bool {
        let (recorder, about) = (&self.context.recorder, reference(&pass.cron_job));
        let api = self.context.client.namespaced::<Job>(pass.namespace());
        match api.delete(name, &DeleteParams::background()).await {
            Err(error) if !is_not_found(&error) => {
                let text = format!("Deleted job: {}", text_of(&error));
                recorder.warning(&about, "FailedDelete", text);
                false
            }
            _ => {
                pass.forget(uid);
                recorder.normal(&about, "SuccessfulDelete", format!("Deleted job {name}"));
                true
            }
        }
    }

    /// Deletes the oldest of the jobs that are over, beyond the limits of each kind.
    async fn clean_up(&self, pass: &mut Pass, jobs: &[Job]) {
        let spec = &pass.cron_job.spec;
        let limits = [
            ("Complete", spec.successful_jobs_history_limit),
            ("Failed", spec.failed_jobs_history_limit),
        ];
        for (kind, limit) in limits {
            let Some(limit) = limit else { continue };
            let mut over: Vec<&Job> =
                jobs.iter().filter(|job| outcome(job) == Some(kind)).collect();
            over.sort_by_key(|job| {
                let start = job.status.as_ref().and_then(|status| status.start_time.as_ref());
                (start.is_none(), start.map(|time| time.0), job.metadata.name.clone())
            });
            let surplus = over.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in over.into_iter().take(surplus) {
                if job.metadata.deletion_timestamp.is_none() {
                    let name = job.metadata.name.as_deref().unwrap_or_default();
                    self.delete(pass, name, job.metadata.uid.as_deref()).await;
                }
            }
        }
    }
}

fn is_rescheduled(old: &CronJob, new: &CronJob) -> bool {
    old.spec.schedule != new.spec.schedule || old.spec.time_zone != new.spec.time_zone
}

/// `Complete` or `Failed`, when a job is over.
fn outcome(job: &Job) -> Option<&str> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut over = conditions.filter(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    });
    over.next().map(|condition| condition.type_.as_str())
}

/// The name of the job for `due`: the same however often it is tried.
fn job_name(cron_job: &CronJob, due: Timestamp) -> String {
    let name = cron_job.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{}", due.as_second().div_euclid(60))
}

/// The Job for the time `due`, which it tells in the zone of the CronJob, or else in UTC.
fn new_job(cron_job: &CronJob, due: Timestamp) -> Job {
    let template = &cron_job.spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let zone = cron_job.spec.time_zone.as_deref().and_then(|name| cron::zone(name).ok());
    let local = Zoned::new(due, zone.unwrap_or(TimeZone::UTC));
    let time = match local.offset().is_zero() {
        true => due.to_string(),
        false => local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    annotations.insert(SCHEDULED.to_owned(), time);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron_job, due)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_tells_the_time_that_it_is_for() {
        let due: Timestamp = "2026-07-01T10:00:00Z".parse().unwrap();
        let of = |zone: Option<&str>| {
            let cron_job: CronJob = serde_json::from_value(json!({
                "metadata": {"name": "tick", "namespace": "n", "uid": "u"},
                "spec": {"schedule": "* * * * *", "timeZone": zone,
                    "jobTemplate": {"metadata": {"labels": {"a": "b"}}}}}))
            .unwrap();
            new_job(&cron_job, due)
        };
        let job = of(Some("Europe/Berlin"));
        assert_eq!(job.metadata.name.as_deref(), Some("tick-29715000"));
        assert_eq!(job.metadata.annotations.unwrap()[SCHEDULED], "2026-07-01T12:00:00+02:00");
        for zone in [None, Some("UTC")] {
            assert_eq!(of(zone).metadata.annotations.unwrap()[SCHEDULED], "2026-07-01T10:00:00Z");
        }
    }
}
