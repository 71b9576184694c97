//! One look at a Job and its pods: what they add up to, whether the Job is over, what to do next.

mod account;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use apimachinery::Object;
use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    backoff::{self, Record},
    condition,
    indexes::Indexes,
    pods::JobPod,
    policy::{self, Consequence, consequence, is_failed, is_indexed, replaces_only_failed},
};
use crate::pod::{Phase, order_of_removal};

/// A Job with its pods, as the pass goes along.
pub(super) struct Pass {
    pub(super) job: Job,
    pub(super) spec: JobSpec,
    pub(super) status: JobStatus,
    pub(super) pods: Vec<JobPod>,
    /// Pods whose finalizer is gone though the cache still shows it.
    released: HashSet<Box<str>>,
    noted_succeeded: HashSet<String>,
    noted_failed: HashSet<String>,
    pub(super) succeeded: i32,
    failed: i32,
    pub(super) active: i32,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    /// Set once the Job is over.
    pub(super) finished: Option<JobCondition>,
    before: Indexes,
    succeeded_indexes: Indexes,
    failed_indexes: Option<Indexes>,
    /// Failed pods by index that stay until their successor knows how many failures there were.
    delayed: BTreeMap<i32, JobPod>,
    pub(super) record: Record,
    pub(super) now: Timestamp,
}

/// What to do about the number of pods.
#[derive(Debug)]
pub(super) enum Step {
    Nothing,
    Wait(Duration),
    Delete(Vec<Arc<Object>>),
    /// One pod each, of an index where the Job has such.
    Create(Vec<Option<i32>>),
}

impl Pass {
    pub(super) fn new(
        job: Job,
        pods: Vec<JobPod>,
        released: HashSet<Box<str>>,
        record: Record,
        now: Timestamp,
    ) -> Self {
        let mut status = job.status.clone().unwrap_or_default();
        let noted = status.uncounted_terminated_pods.get_or_insert_default();
        let set = |uids: &Option<Vec<String>>| uids.iter().flatten().cloned().collect();
        let (noted_succeeded, noted_failed) = (set(&noted.succeeded), set(&noted.failed));
        let count = |wanted: &dyn Fn(&JobPod) -> bool| {
            i32::try_from(pods.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
        };
        let mut pass = Self {
            spec: job.spec.clone().unwrap_or_default(),
            active: count(&|pod| pod.facts.is_active()),
            ready: count(&|pod| pod.facts.is_active() && pod.facts.ready.is_some()),
            terminating: count(&JobPod::is_terminating),
            succeeded: 0,
            failed: 0,
            finished: None,
            before: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            delayed: BTreeMap::new(),
            record,
            released,
            noted_succeeded,
            noted_failed,
            job,
            status,
            pods,
            now,
        };
        pass.count();
        pass
    }

    fn indexed(&self) -> bool {
        is_indexed(&self.job)
    }

    fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    pub(super) fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn deleting(&self) -> bool {
        self.job.metadata.deletion_timestamp.is_some()
    }

    /// Whether `pod` is still to be counted.
    fn waits(&self, pod: &JobPod) -> bool {
        pod.tracked && !self.released.contains(&pod.object.uid)
    }

    /// The pod's index, if it is one that the Job has.
    fn valid_index(&self, pod: &JobPod) -> Option<i32> {
        pod.index.filter(|index| *index < self.completions())
    }

    fn counts(&self, pod: &JobPod) -> bool {
        self.waits(pod) && (!self.indexed() || self.valid_index(pod).is_some())
    }

    fn count(&mut self) {
        let noted = |set: &HashSet<String>, pod: &JobPod| set.contains(&*pod.object.uid);
        let new = |set, wanted: &dyn Fn(&JobPod) -> bool| -> Vec<&JobPod> {
            let pods = self.pods.iter();
            pods.filter(|pod| self.counts(pod) && !noted(set, pod) && wanted(pod)).collect()
        };
        let succeeded = new(&self.noted_succeeded, &|pod| pod.facts.phase == Phase::Succeeded);
        let failed = new(&self.noted_failed, &|pod| is_failed(pod, &self.job));
        let times = |pods: &[&JobPod]| pods.iter().map(|pod| pod.finished).collect::<Vec<_>>();
        let record = self.record.after(&times(&succeeded), &times(&failed));
        let counted = failed.iter().filter(|pod| consequence(&self.job, pod).counts()).count();
        let total = |old: Option<i32>, new: usize, noted: &HashSet<String>| {
            old.unwrap_or(0) + i32::try_from(new + noted.len()).unwrap_or(i32::MAX)
        };
        let succeeded = total(self.status.succeeded, succeeded.len(), &self.noted_succeeded);
        let failed = total(self.status.failed, counted, &self.noted_failed);
        (self.succeeded, self.failed, self.record) = (succeeded, failed, record);
    }

    /// Finds out whether the Job is over. Returns after how long its deadline passes.
    pub(super) fn evaluate(&mut self) -> Option<Duration> {
        if self.status.start_time.is_none() && !self.suspended() {
            self.status.start_time = Some(Time(self.now));
        }
        self.finished = condition::holds(&self.job, condition::SUCCESS).cloned().or_else(|| {
            if let Some(target) = condition::holds(&self.job, condition::FAILURE) {
                return Some(failed(target, self.now));
            }
            let mut failed = self.pods.iter().filter(|pod| is_failed(pod, &self.job));
            let message = failed.find_map(|pod| match consequence(&self.job, pod) {
                Consequence::FailJob(message) => Some(message),
                _ => None,
            })?;
            Some(condition::new(condition::FAILURE, "PodFailurePolicy", &message, self.now))
        });
        let mut deadline = None;
        if self.finished.is_none() {
            deadline = self.deadline_in();
            if self.failed > self.backoff_limit() || self.restarted_too_often() {
                self.fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
            } else if deadline.is_some_and(|left| left.is_zero()) {
                self.fail("DeadlineExceeded", "Job was active longer than specified deadline");
            }
        }
        if self.indexed() {
            self.evaluate_indexes();
        }
        deadline.filter(|_| self.finished.is_none())
    }

    fn fail(&mut self, reason: &str, message: &str) {
        self.finished = Some(condition::new(condition::FAILURE, reason, message, self.now));
    }

    fn backoff_limit(&self) -> i32 {
        self.spec.backoff_limit.unwrap_or(6)
    }

    /// Restarts in place count where pods are restarted rather than replaced.
    fn restarted_too_often(&self) -> bool {
        let policy =
            self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let alive =
            self.pods.iter().filter(|p| matches!(p.facts.phase, Phase::Running | Phase::Pending));
        let containers = alive.flat_map(|pod| {
            let init = pod.status.init_container_statuses.iter().flatten();
            init.chain(pod.status.container_statuses.iter().flatten())
        });
        let restarts: i32 = containers.map(|container| container.restart_count).sum();
        restarts >= self.backoff_limit().max(1)
    }

    fn deadline_in(&self) -> Option<Duration> {
        let allowed = u64::try_from(self.spec.active_deadline_seconds?).ok()?;
        let started = self.status.start_time.as_ref().filter(|_| !self.suspended())?.0;
        let passed = Duration::try_from(self.now.duration_since(started)).unwrap_or_default();
        Some(Duration::from_secs(allowed).saturating_sub(passed))
    }

    fn evaluate_indexes(&mut self) {
        let completions = self.completions();
        let text = self.status.completed_indexes.as_deref().unwrap_or_default();
        self.before = Indexes::parse(text, completions);
        let succeeded = self.pods.iter().filter(|p| p.tracked && p.facts.phase == Phase::Succeeded);
        self.succeeded_indexes = self.before.with(succeeded.filter_map(|p| self.valid_index(p)));
        self.succeeded = self.succeeded_indexes.total();
        if let Some(limit) = self.spec.backoff_limit_per_index {
            let text = self.status.failed_indexes.as_deref().unwrap_or_default();
            let failed = self.pods.iter().filter(|pod| pod.tracked && self.fails_index(pod, limit));
            let failed =
                Indexes::parse(text, completions).with(failed.filter_map(|p| self.valid_index(p)));
            let count = failed.total();
            self.failed_indexes = Some(failed);
            if self.finished.is_none() {
                if self.spec.max_failed_indexes.is_some_and(|most| count > most) {
                    let message = "Job has exceeded the specified maximal number of failed indexes";
                    self.fail("MaxFailedIndexesExceeded", message);
                } else if count > 0 && count + self.succeeded >= completions {
                    self.fail("FailedIndexes", "Job has failed indexes");
                }
            }
            self.delay();
        }
        if self.finished.is_none()
            && let Some(message) = policy::success(&self.job, &self.succeeded_indexes)
        {
            let success = condition::new(condition::SUCCESS, "SuccessPolicy", &message, self.now);
            self.finished = Some(success);
        }
    }

    fn fails_index(&self, pod: &JobPod, limit: i32) -> bool {
        is_failed(pod, &self.job)
            && match consequence(&self.job, pod) {
                Consequence::FailIndex => true,
                other => other.counts() && pod.failures.0 >= limit,
            }
    }

    /// Keeps the last failed pod of each index that is to have another.
    fn delay(&mut self) {
        let active: HashSet<i32> =
            self.pods.iter().filter(|p| p.facts.is_active()).filter_map(|p| p.index).collect();
        let rank = |pod: &JobPod| (pod.failures.0 + pod.failures.1, pod.finished);
        let mut delayed = BTreeMap::new();
        for pod in &self.pods {
            let Some(index) = self.valid_index(pod) else { continue };
            let over = self.succeeded_indexes.has(index)
                || self.failed_indexes.as_ref().is_some_and(|failed| failed.has(index))
                || active.contains(&index);
            if over || !self.waits(pod) || !is_failed(pod, &self.job) {
                continue;
            }
            if delayed.get(&index).is_none_or(|last| rank(last) <= rank(pod)) {
                delayed.insert(index, pod.clone());
            }
        }
        self.delayed = delayed;
    }

    /// Whether enough pods have succeeded and none runs any more.
    pub(super) fn complete(&mut self) {
        let enough = match self.spec.completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        if enough && self.active == 0 {
            let message = "Reached expected number of succeeded pods";
            let success =
                condition::new(condition::SUCCESS, "CompletionsReached", message, self.now);
            self.finished = Some(success);
        }
    }

    /// Pods that run or will.
    pub(super) fn active_pods(&self) -> Vec<&JobPod> {
        self.pods.iter().filter(|pod| pod.facts.is_active()).collect()
    }

    /// What brings the number of pods closer to what it should be.
    pub(super) fn step(&self, burst: usize) -> Step {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            _ if self.suspended() => 0,
            None if self.succeeded > 0 => self.active,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism).max(0),
        };
        let surplus = usize::try_from(self.active - wanted).unwrap_or(0);
        let mut leaving = self.leaving(surplus);
        if !leaving.is_empty() || self.suspended() {
            leaving.truncate(burst);
            return Step::Delete(leaving);
        }
        let held = if replaces_only_failed(&self.job) { self.terminating } else { 0 };
        let missing = usize::try_from(wanted - held - self.active).unwrap_or(0).min(burst);
        if missing == 0 {
            return Step::Nothing;
        }
        let wait = self.record.remaining(self.now);
        let per_index = self.spec.backoff_limit_per_index.is_some();
        if !per_index && !wait.is_zero() {
            return Step::Wait(wait);
        }
        if !self.indexed() {
            return Step::Create(vec![None; missing]);
        }
        let indexes = self.pending(missing);
        let wait = |index: &i32| match self.delayed.get(index) {
            Some(pod) if per_index => {
                let failures = u32::try_from(pod.failures.0 + pod.failures.1 + 1).unwrap_or(0);
                backoff::remaining(failures, pod.finished, self.now)
            }
            _ => Duration::ZERO,
        };
        let (now, later): (Vec<i32>, Vec<i32>) =
            indexes.into_iter().partition(|index| wait(index).is_zero());
        match later.iter().map(wait).min() {
            Some(wait) if now.is_empty() => Step::Wait(wait),
            _ if now.is_empty() => Step::Nothing,
            _ => Step::Create(now.into_iter().map(Some).collect()),
        }
    }

    /// The first indexes that have neither succeeded nor failed nor a pod.
    fn pending(&self, count: usize) -> Vec<i32> {
        let held = replaces_only_failed(&self.job);
        let with_pod = self
            .pods
            .iter()
            .filter(|pod| pod.facts.is_active() || held && pod.is_terminating())
            .filter_map(|pod| pod.index);
        let mut taken = self.succeeded_indexes.with(with_pod);
        if let Some(failed) = &self.failed_indexes {
            taken = taken.union(failed);
        }
        taken.missing(count, self.completions())
    }

    /// Active pods to delete: all of which an index has another or which have no valid one, and
    /// further ones, those that do least first, until there are `least`.
    fn leaving(&self, least: usize) -> Vec<Arc<Object>> {
        let mut active = self.active_pods();
        // Those that do most come first here, so that of each index the first one stays.
        active.sort_by(|a, b| order_of_removal((&b.facts, 0), (&a.facts, 0)));
        let (mut staying, mut leaving) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for pod in active {
            let stays =
                !self.indexed() || self.valid_index(pod).is_some_and(|index| seen.insert(index));
            if stays { staying.push(pod) } else { leaving.push(pod) }
        }
        let more = least.saturating_sub(leaving.len());
        leaving.extend(staying.into_iter().rev().take(more));
        leaving.into_iter().map(|pod| pod.object.clone()).collect()
    }

    /// The failures that a new pod of `index` is told of, where the index has a limit of its own.
    pub(super) fn failures_before(&self, index: i32) -> Option<(i32, i32)> {
        self.spec.backoff_limit_per_index?;
        let Some(pod) = self.delayed.get(&index) else {
            return Some((0, 0));
        };
        let (counted, ignored) = pod.failures;
        Some(match consequence(&self.job, pod).counts() {
            true => (counted + 1, ignored),
            false => (counted, ignored + 1),
        })
    }
}

/// How a Job that is about to fail with `target` ends.
fn failed(target: &JobCondition, now: Timestamp) -> JobCondition {
    let (reason, message) = (target.reason.as_deref(), target.message.as_deref());
    condition::new(condition::FAILED, reason.unwrap_or_default(), message.unwrap_or_default(), now)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::pods::tests::pod, *};

    pub(super) fn pass(spec: Value, status: Value, pods: Vec<JobPod>) -> Pass {
        let mut job = json!({"metadata": {"name": "j"}, "status": status,
            "spec": {"template": {}, "parallelism": 2, "completions": 3, "backoffLimit": 1}});
        job["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let job = serde_json::from_value(job).unwrap();
        let now = Timestamp::from_second(100).unwrap();
        let mut pass = Pass::new(job, pods, HashSet::new(), Record::default(), now);
        pass.evaluate();
        pass
    }

    fn reason(pass: &Pass) -> &str {
        pass.finished.as_ref().and_then(|one| one.reason.as_deref()).unwrap_or_default()
    }

    fn created(pass: &Pass) -> Vec<Option<i32>> {
        match pass.step(10) {
            Step::Create(indexes) => indexes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_more_pods_run_than_are_missing() {
        assert_eq!(created(&pass(json!({}), json!({}), Vec::new())).len(), 2);
        let two = || json!({"succeeded": 2});
        assert_eq!(created(&pass(json!({}), two(), Vec::new())).len(), 1);
        let running = vec![pod("a", "Running", None, 1), pod("b", "Running", None, 1)];
        let Step::Delete(leaving) = pass(json!({}), two(), running.clone()).step(10) else {
            panic!("one is too many")
        };
        assert_eq!(leaving.len(), 1);
        let suspended = pass(json!({"suspend": true}), json!({}), running);
        assert!(matches!(suspended.step(10), Step::Delete(all) if all.len() == 2));
        assert_eq!(suspended.status.start_time, None);
    }

    #[test]
    fn a_failed_pod_is_replaced_after_a_while() {
        let wait = |second| match pass(json!({}), json!({}), vec![pod("a", "Failed", None, second)])
            .step(10)
        {
            Step::Wait(wait) => Some(wait.as_secs()),
            _ => None,
        };
        assert_eq!(wait(97), Some(7));
        assert_eq!(wait(80), None);
    }

    #[test]
    fn too_many_failures_or_too_much_time_end_a_job() {
        let failed = vec![pod("a", "Failed", None, 1), pod("b", "Failed", None, 1)];
        let mut over = pass(json!({}), json!({}), failed);
        assert_eq!(reason(&over), "BackoffLimitExceeded");
        over.account();
        over.settle(&HashSet::new());
        assert!(over.finish());
        let conditions = over.status.conditions.unwrap();
        let kinds: Vec<&str> = conditions.iter().map(|one| one.type_.as_str()).collect();
        assert_eq!(kinds, ["FailureTarget", "Failed"]);
        assert_eq!((over.status.failed, over.status.completion_time), (Some(2), None));
        let started = json!({"startTime": "1970-01-01T00:01:00Z"});
        let late = |seconds: i64| {
            pass(json!({"activeDeadlineSeconds": seconds}), started.clone(), Vec::new())
        };
        assert_eq!(reason(&late(40)), "DeadlineExceeded");
        assert_eq!(reason(&late(41)), "");
    }

    #[test]
    fn a_job_is_complete_once_enough_have_succeeded() {
        let last = vec![pod("c", "Succeeded", None, 1)];
        let mut pass = pass(json!({}), json!({"succeeded": 2}), last);
        pass.complete();
        pass.account();
        pass.settle(&HashSet::new());
        assert!(pass.finish());
        let conditions = pass.status.conditions.unwrap();
        let kinds: Vec<&str> = conditions.iter().map(|one| one.type_.as_str()).collect();
        assert_eq!(kinds, ["SuccessCriteriaMet", "Complete"]);
        assert_eq!(pass.status.succeeded, Some(3));
        assert!(pass.status.completion_time.is_some());
    }

    #[test]
    fn each_index_has_its_own_pod_and_its_own_failures() {
        let indexed = || json!({"completionMode": "Indexed", "parallelism": 3});
        let pods = vec![
            pod("a", "Running", Some(1), 1),
            pod("b", "Running", Some(1), 1),
            pod("c", "Running", Some(7), 1),
        ];
        let Step::Delete(leaving) = pass(indexed(), json!({}), pods).step(10) else {
            panic!("one is too many, one is none of the Job's")
        };
        assert_eq!(leaving.len(), 2);
        let status = json!({"completedIndexes": "0", "succeeded": 1});
        let done = pass(indexed(), status.clone(), vec![pod("a", "Running", Some(1), 1)]);
        assert_eq!(created(&done), [Some(2)]);
        let own =
            json!({"completionMode": "Indexed", "backoffLimit": 9, "backoffLimitPerIndex": 1});
        let mut failing = pass(own.clone(), status.clone(), vec![pod("f", "Failed", Some(1), 1)]);
        assert_eq!(failing.failures_before(1), Some((1, 0)));
        assert_eq!(failing.account().0.len(), 0, "kept until its successor knows of it");
        let mut last = pod("f", "Failed", Some(1), 1);
        last.failures = (1, 0);
        let mut failed = pass(own, status, vec![last]);
        assert_eq!(failed.account().0.len(), 1);
        assert_eq!(failed.status.failed_indexes.as_deref(), Some("1"));
    }
}
