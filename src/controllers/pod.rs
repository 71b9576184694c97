//! What controllers look at in a pod, read out of its bytes without the rest (a fifth of the cost
//! of a full parse), and the rules on readiness and rank that they share.

use std::{cmp::Ordering, sync::Arc};

use apimachinery::Object;
use jiff::Timestamp;
use serde::Deserialize;
use tracing::warn;

/// The facts of one pod.
#[derive(Clone, Debug)]
pub(crate) struct PodFacts {
    pub(crate) object: Arc<Object>,
    pub(crate) created: Option<Timestamp>,
    /// `spec.nodeName`, empty while the pod has none.
    pub(crate) node: Box<str>,
    pub(crate) phase: Phase,
    /// Whether it is ready, and since when.
    pub(crate) ready: Option<Timestamp>,
    /// Restarts of its containers, the most of any.
    pub(crate) restarts: i32,
    /// The annotation controller.kubernetes.io/pod-deletion-cost.
    pub(crate) deletion_cost: i32,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost")]
    deletion_cost: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Phase,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    last_transition_time: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    #[serde(default)]
    restart_count: i32,
}

impl PodFacts {
    /// Reads the facts; a pod that does not parse is logged and left out.
    pub(crate) fn read(object: Arc<Object>) -> Option<Self> {
        let pod: Pod = object
            .parse()
            .inspect_err(|error| warn!(key = %object.key, %error, "pod does not parse"))
            .ok()?;
        let ready =
            pod.status.conditions.iter().find(|c| &*c.kind == "Ready" && &*c.status == "True");
        let cost = pod.metadata.annotations.deletion_cost.and_then(|cost| cost.parse().ok());
        Some(Self {
            created: pod.metadata.creation_timestamp,
            node: pod.spec.node_name,
            phase: pod.status.phase,
            ready: ready.map(|c| c.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH)),
            restarts: pod
                .status
                .container_statuses
                .iter()
                .map(|c| c.restart_count)
                .max()
                .unwrap_or(0),
            deletion_cost: cost.unwrap_or(0),
            object,
        })
    }

    /// Whether all its containers have ended for good.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether it runs or will, and is not on its way out.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_over() && !self.object.deleting
    }

    /// Whether it has been ready for `min_ready_seconds`.
    pub(crate) fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        self.available_in(min_ready_seconds, now) == Some(0)
    }

    /// Seconds until it is available if it stays ready; `None` while it is not ready.
    pub(crate) fn available_in(&self, min_ready_seconds: i32, now: Timestamp) -> Option<u64> {
        let since = self.ready?;
        let passed = now.as_second().saturating_sub(since.as_second());
        Some(u64::try_from(i64::from(min_ready_seconds).saturating_sub(passed)).unwrap_or(0))
    }
}

/// The node that a pod is assigned to, read alone: what the index of pods by node asks of each.
pub(crate) fn node_name(object: &Object) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Assigned {
        #[serde(default)]
        spec: Spec,
    }
    object.parse::<Assigned>().ok().map(|pod| pod.spec.node_name).filter(|name| !name.is_empty())
}

/// Orders pods by which should go first when there are too many (upstream's `ActivePodsWithRanks`):
/// unassigned before assigned, pending before running, not ready before ready, lower deletion cost,
/// more siblings on its node (`crowd`), ready for a shorter time, more restarts, younger.
pub(crate) fn order_of_removal(a: (&PodFacts, usize), b: (&PodFacts, usize)) -> Ordering {
    fn stage(phase: Phase) -> u8 {
        match phase {
            Phase::Pending => 0,
            Phase::Unknown => 1,
            _ => 2,
        }
    }
    // Seconds in powers of two: pods of about the same age count as equally old, so that the
    // choice among them is not always the same (KEP-2185).
    fn age_class(since: Option<Timestamp>, now: Timestamp) -> u32 {
        let seconds = since.map_or(0, |since| now.as_second() - since.as_second());
        u64::try_from(seconds).unwrap_or(0).max(1).ilog2()
    }
    let now = Timestamp::now();
    let ((a, crowd_a), (b, crowd_b)) = (a, b);
    a.node
        .is_empty()
        .cmp(&b.node.is_empty())
        .reverse()
        .then_with(|| stage(a.phase).cmp(&stage(b.phase)))
        .then_with(|| a.ready.is_some().cmp(&b.ready.is_some()))
        .then_with(|| a.deletion_cost.cmp(&b.deletion_cost))
        .then_with(|| crowd_b.cmp(&crowd_a))
        .then_with(|| age_class(a.ready, now).cmp(&age_class(b.ready, now)))
        .then_with(|| b.restarts.cmp(&a.restarts))
        .then_with(|| age_class(a.created, now).cmp(&age_class(b.created, now)))
        .then_with(|| a.object.uid.cmp(&b.object.uid))
}

#[cfg(test)]
mod tests {
    use apimachinery::Draft;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, spec: Value, status: Value) -> PodFacts {
        let value = json!({"metadata": {"name": name, "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status});
        PodFacts::read(Draft::new(&value, &[] as &[&str]).unwrap().seal(1)).unwrap()
    }

    fn ready(since: &str) -> Value {
        json!({"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]})
    }

    #[test]
    fn pods_that_do_least_go_first() {
        let unassigned = pod("unassigned", json!({}), json!({"phase": "Pending"}));
        let pending = pod("pending", json!({"nodeName": "n"}), json!({"phase": "Pending"}));
        let unready = pod("unready", json!({"nodeName": "n"}), json!({"phase": "Running"}));
        let young = pod("young", json!({"nodeName": "n"}), ready("2026-01-02T00:00:00Z"));
        let mut pods = [&young, &unready, &unassigned, &pending];
        pods.sort_by(|a, b| order_of_removal((a, 1), (b, 1)));
        let names: Vec<_> = pods.iter().map(|pod| &*pod.object.uid).collect();
        assert_eq!(names, ["unassigned", "pending", "unready", "young"]);
    }

    #[test]
    fn a_pod_is_available_once_it_was_ready_long_enough() {
        let pod = pod("a", json!({}), ready("2026-01-01T00:00:00Z"));
        let now = "2026-01-01T00:00:04Z".parse().unwrap();
        assert!(pod.is_available(4, now));
        assert_eq!(pod.available_in(10, now), Some(6));
    }
}
