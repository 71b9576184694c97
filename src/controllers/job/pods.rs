//! A Job's pods: what counts of them, and what new ones look like.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use apimachinery::Object;
use client::informer::parse_or_warn;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{
        Container, ContainerStatus, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodStatus,
    },
};

use crate::pod::PodFacts;

/// Keeps a pod until it was counted in its Job's status.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label with a pod's completion index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Bytes of a generated name before the five random ones.
const LONGEST_PREFIX: usize = 58;

/// One pod of a Job.
#[derive(Clone, Debug)]
pub(super) struct JobPod {
    pub(super) object: Arc<Object>,
    pub(super) facts: PodFacts,
    pub(super) status: PodStatus,
    /// Its completion index, if it has a valid one.
    pub(super) index: Option<i32>,
    /// Whether it waits to be counted.
    pub(super) tracked: bool,
    /// Failures of its index before it: those that count, and those that a policy ignores.
    pub(super) failures: (i32, i32),
    /// When it finished, as far as can be told.
    pub(super) finished: Timestamp,
}

impl JobPod {
    /// Reads a pod; one that does not parse is logged and left out.
    pub(super) fn read(object: Arc<Object>) -> Option<Self> {
        let pod: Pod = parse_or_warn(&object)?;
        let annotation = |name: &str| -> Option<i32> {
            let value = pod.metadata.annotations.as_ref()?.get(name)?.parse().ok()?;
            (value >= 0).then_some(value)
        };
        let finalizers = pod.metadata.finalizers.as_deref().unwrap_or_default();
        Some(Self {
            index: annotation(INDEX),
            failures: (annotation(FAILURES).unwrap_or(0), annotation(IGNORED).unwrap_or(0)),
            tracked: finalizers.iter().any(|one| one == FINALIZER),
            finished: finished(&pod),
            status: pod.status.unwrap_or_default(),
            facts: PodFacts::read(object.clone())?,
            object,
        })
    }

    /// Whether it is on its way out.
    pub(super) fn is_terminating(&self) -> bool {
        self.object.deleting && !self.facts.is_over()
    }
}

/// When a pod finished: by its containers, else when it became unready, else when it was deleted,
/// else (for want of better) when it was created.
fn finished(pod: &Pod) -> Timestamp {
    let status = pod.status.clone().unwrap_or_default();
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<&str> = init
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let ended = |status: &ContainerStatus| {
        Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)
    };
    let main = status.container_statuses.iter().flatten();
    let beside = status.init_container_statuses.iter().flatten();
    let beside = beside.filter(|status| sidecars.contains(&status.name.as_str()));
    let ends: Option<Vec<Timestamp>> = main.chain(beside).map(ended).collect();
    let by_containers = ends.and_then(|ends| ends.into_iter().max());
    let unready = || {
        let mut conditions = status.conditions.iter().flatten();
        let unready = conditions.find(|one| one.type_ == "Ready" && one.status == "False")?;
        unready.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let at = pod.metadata.deletion_timestamp.as_ref()?.0;
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        at.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    by_containers.or_else(unready).or_else(deleted).or_else(created).unwrap_or_default()
}

/// Completion indexes from low to high, pods without one first.
pub(super) fn by_index(a: &JobPod, b: &JobPod) -> Ordering {
    a.index.cmp(&b.index)
}

/// Makes `pod` one of `job`'s, of completion `index` where it has one. Of an index with a backoff
/// limit of its own, `failures` tells those that count and those that do not.
pub(super) fn prepare(pod: &mut Pod, job: &Job, index: Option<i32>, failures: Option<(i32, i32)>) {
    let meta = &mut pod.metadata;
    let finalizers = meta.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|one| one == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some(index) = index else { return };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let suffix = format!("-{index}-");
    let mut end = name.len().min(LONGEST_PREFIX - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    meta.generate_name = Some(format!("{}{suffix}", &name[..end]));
    let note = |notes: &mut Option<BTreeMap<String, String>>, key: &str, value: i32| {
        notes.get_or_insert_default().insert(key.to_owned(), value.to_string());
    };
    note(&mut meta.annotations, INDEX, index);
    note(&mut meta.labels, INDEX, index);
    if let Some((counted, ignored)) = failures {
        note(&mut meta.annotations, FAILURES, counted);
        if ignored > 0 {
            note(&mut meta.annotations, IGNORED, ignored);
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    spec.init_containers.iter_mut().flatten().for_each(tell_index);
    spec.containers.iter_mut().for_each(tell_index);
}

/// The index as an environment variable, unless the template sets it.
fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    variables.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.labels['{INDEX}']"),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
}

#[cfg(test)]
pub(super) mod tests {
    use apimachinery::Draft;
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn read(pod: Value) -> JobPod {
        JobPod::read(Draft::new(&pod, &[] as &[&str]).unwrap().seal(1)).unwrap()
    }

    /// A tracked pod in `phase`, which finished at `second`.
    pub(crate) fn pod(name: &str, phase: &str, index: Option<i32>, second: i64) -> JobPod {
        let mut pod = json!({"metadata": {"name": name, "uid": name, "finalizers": [FINALIZER],
            "annotations": {}}, "spec": {"containers": []}, "status": {"phase": phase,
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 1,
                    "finishedAt": Timestamp::from_second(second).unwrap()}}}]}});
        if let Some(index) = index {
            pod["metadata"]["annotations"][INDEX] = index.to_string().into();
        }
        read(pod)
    }

    #[test]
    fn the_end_of_a_pod_is_told_by_what_there_is() {
        let at = |status: Value, meta: Value| {
            let mut metadata = json!({"name": "p", "creationTimestamp": "1970-01-01T00:00:01Z"});
            metadata.as_object_mut().unwrap().extend(meta.as_object().unwrap().clone());
            let pod = json!({"metadata": metadata, "spec": {"containers": []}, "status": status});
            read(pod).finished.as_second()
        };
        assert_eq!(pod("p", "Failed", None, 9).finished.as_second(), 9);
        let unready = json!({"conditions": [{"type": "Ready", "status": "False",
            "lastTransitionTime": "1970-01-01T00:00:05Z"}]});
        assert_eq!(at(unready, json!({})), 5);
        let deleted = json!({"deletionTimestamp": "1970-01-01T00:00:40Z",
            "deletionGracePeriodSeconds": 30});
        assert_eq!(at(json!({}), deleted), 10);
        assert_eq!(at(json!({}), json!({})), 1);
    }

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({"metadata": {"name": "j".repeat(63)},
            "spec": {"template": {}}}))
        .unwrap();
        let mut pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "a"},
            {"name": "b", "env": [{"name": INDEX_VARIABLE, "value": "x"}]}]}}))
        .unwrap();
        prepare(&mut pod, &job, Some(12), Some((2, 0)));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.containers[0].env.as_ref().unwrap().len(), 1);
        assert_eq!(spec.containers[1].env.as_ref().unwrap().len(), 1);
        assert!(spec.hostname.unwrap().ends_with("j-12"));
        let meta = pod.metadata;
        assert_eq!(meta.generate_name.as_ref().unwrap().len(), LONGEST_PREFIX);
        assert!(meta.generate_name.unwrap().ends_with("j-12-"));
        assert_eq!(meta.labels.unwrap()[INDEX], "12");
        let annotations = meta.annotations.unwrap();
        assert_eq!((&*annotations[INDEX], &*annotations[FAILURES]), ("12", "2"));
        assert!(!annotations.contains_key(IGNORED));
    }
}
