//! The status of a PodDisruptionBudget.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use crate::{
    counts::{Round, scaled},
    pod::PodFacts,
};

const ALLOWED: &str = "DisruptionAllowed";
/// An evicted pod that is not being deleted after this long stays, and counts again.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// Whether the number of pods that their controllers want has to be known.
pub(super) fn asks_controllers(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// How many pods have to be healthy out of `expected`.
pub(super) fn desired(spec: &PodDisruptionBudgetSpec, expected: i32) -> i32 {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => expected.saturating_sub(scaled(most, expected, Round::Up)).max(0),
        (None, Some(least)) => scaled(least, expected, Round::Up),
        (None, None) => 0,
    }
}

/// What was found out in one pass.
pub(super) struct Found<'a> {
    pub(super) pods: &'a [PodFacts],
    pub(super) expected: i32,
    pub(super) desired: i32,
    pub(super) generation: Option<i64>,
    pub(super) now: Timestamp,
}

impl Found<'_> {
    /// The status after `old`, when to look again, and the pods that were evicted in vain.
    pub(super) fn status(
        &self,
        old: &PodDisruptionBudgetStatus,
    ) -> (PodDisruptionBudgetStatus, Option<Duration>, Vec<&PodFacts>) {
        let (mut disrupted, mut stayed, mut again) = (BTreeMap::new(), Vec::new(), None);
        for pod in self.pods.iter().filter(|pod| !pod.object.deleting) {
            let noted = old.disrupted_pods.as_ref().and_then(|all| all.get(&*pod.object.key.name));
            let Some(since) = noted else { continue };
            let left = since.0.duration_since(self.now) + DELETION_TIMEOUT;
            if left.is_negative() {
                stayed.push(pod);
            } else {
                let left = Duration::try_from(left).unwrap_or_default();
                again = again.min(Some(left)).or(Some(left));
                disrupted.insert(pod.object.key.name.to_string(), since.clone());
            }
        }
        let healthy = self.pods.iter().filter(|pod| {
            let name = &*pod.object.key.name;
            pod.ready.is_some() && !pod.object.deleting && !disrupted.contains_key(name)
        });
        let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
        let allowed = match self.expected {
            1.. => healthy.saturating_sub(self.desired).max(0),
            _ => 0,
        };
        let mut status = PodDisruptionBudgetStatus {
            conditions: old.conditions.clone(),
            current_healthy: Some(healthy),
            desired_healthy: Some(self.desired),
            disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
            disruptions_allowed: Some(allowed),
            expected_pods: Some(self.expected),
            observed_generation: self.generation,
        };
        let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
        set(&mut status, allowed > 0, reason, String::new(), self.now);
        (status, again, stayed)
    }
}

/// The status of a budget that could not be computed: nothing may go.
pub(super) fn failed(
    old: &PodDisruptionBudgetStatus,
    why: String,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let mut status = old.clone();
    status.disruptions_allowed = Some(0);
    set(&mut status, false, "SyncFailed", why, now);
    status
}

fn set(
    status: &mut PodDisruptionBudgetStatus,
    is_true: bool,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let value = if is_true { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == ALLOWED);
    let since = known.map(|at| &conditions[at]).filter(|condition| condition.status == value);
    let condition = Condition {
        last_transition_time: since.map_or(Time(now), |known| known.last_transition_time.clone()),
        message,
        observed_generation: status.observed_generation,
        reason: reason.to_owned(),
        status: value.to_owned(),
        type_: ALLOWED.to_owned(),
    };
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Draft;
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> PodDisruptionBudgetSpec {
        serde_json::from_value(value).unwrap()
    }

    fn pod(name: &str, ready: bool) -> PodFacts {
        let ready = if ready { "True" } else { "False" };
        let value = json!({"metadata": {"name": name, "uid": name}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}]}});
        PodFacts::read(Draft::new(&value, &[] as &[&str]).unwrap().seal(1)).unwrap()
    }

    #[test]
    fn budgets_are_counted_over_what_is_expected() {
        for (value, expected, healthy) in [
            (json!({"minAvailable": 2}), 5, 2),
            (json!({"minAvailable": "50%"}), 5, 3),
            (json!({"maxUnavailable": 1}), 5, 4),
            (json!({"maxUnavailable": "30%"}), 5, 3),
            (json!({"maxUnavailable": 9}), 5, 0),
            (json!({}), 5, 0),
        ] {
            assert_eq!(desired(&spec(value.clone()), expected), healthy, "{value}");
        }
    }

    #[test]
    fn evicted_pods_do_not_count_until_they_have_stayed() {
        let pods = [pod("a", true), pod("b", true), pod("c", false)];
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let found = Found { pods: &pods, expected: 3, desired: 1, generation: Some(2), now };
        let mut old = PodDisruptionBudgetStatus::default();
        let (status, again, stayed) = found.status(&old);
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(2), Some(1)));
        assert_eq!((again, stayed.len()), (None, 0));
        let evicted = |at: &str| {
            Some(BTreeMap::from([("a".to_owned(), Time(at.parse::<Timestamp>().unwrap()))]))
        };
        old.disrupted_pods = evicted("2026-01-01T00:09:00Z");
        let (status, again, _) = found.status(&old);
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(1), Some(0)));
        assert_eq!(status.conditions.unwrap()[0].reason, "InsufficientPods");
        assert_eq!(again, Some(Duration::from_secs(60)));
        old.disrupted_pods = evicted("2026-01-01T00:07:00Z");
        let (status, _, stayed) = found.status(&old);
        assert_eq!((status.current_healthy, stayed.len()), (Some(2), 1));
        assert_eq!(status.disrupted_pods, None);
    }
}
