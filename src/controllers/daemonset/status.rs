//! The status of a DaemonSet, counted over the nodes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSetStatus;

use super::{Pass, placement::Verdict};

/// The status to write, and when the next pod becomes available. The generation counts as observed
/// only by a pass that acted on it (`acted`).
pub(super) fn of(pass: &Pass<'_>, acted: bool) -> (DaemonSetStatus, Option<Duration>) {
    let old = pass.set.status.clone().unwrap_or_default();
    let current = pass.current();
    let (mut available, mut updated, mut next) = (0, 0, None);
    let mut status = DaemonSetStatus {
        collision_count: old.collision_count,
        conditions: old.conditions,
        observed_generation: match acted {
            true => pass.set.metadata.generation,
            false => old.observed_generation,
        },
        ..DaemonSetStatus::default()
    };
    for node in &pass.nodes {
        let oldest = pass.pods.get(node.name()).and_then(|pods| pods.first());
        match (pass.placement.verdict(node), oldest) {
            (Verdict::Run, oldest) => {
                status.desired_number_scheduled += 1;
                let Some(pod) = oldest else { continue };
                status.current_number_scheduled += 1;
                status.number_ready += i32::from(pod.ready.is_some());
                available += i32::from(current.available(pod));
                updated += i32::from(current.made(pod));
                let wait = pod.available_in(current.min_ready_seconds, pass.now);
                next = next.into_iter().chain(wait.filter(|wait| *wait > 0)).min();
            }
            (_, Some(_)) => status.number_misscheduled += 1,
            (_, None) => {}
        }
    }
    status.number_available = some(available);
    status.number_unavailable = some(status.desired_number_scheduled - available);
    status.updated_number_scheduled = some(updated);
    (status, next.map(Duration::from_secs))
}

/// Zero is left out, as upstream's JSON leaves it out.
fn some(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

#[cfg(test)]
mod tests {
    use apimachinery::Key;
    use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::PodSpec};
    use serde_json::json;

    use super::{
        super::{
            placement::Placement,
            pods::{
                by_node,
                tests::{current, node, pod},
            },
        },
        *,
    };

    #[test]
    fn pods_are_counted_where_they_belong() {
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": "d", "generation": 3},
            "spec": {"selector": {}, "template": {}, "minReadySeconds": 70},
            "status": {"currentNumberScheduled": 0, "desiredNumberScheduled": 0,
                "numberMisscheduled": 0, "numberReady": 0, "observedGeneration": 2}}))
        .unwrap();
        let key = Key::new("n", "d");
        let pass = Pass {
            key: &key,
            set: &set,
            hash: "new",
            now: current().now,
            nodes: vec![node("a", None), node("b", None), node("c", Some("NoSchedule"))],
            placement: Placement::of(&PodSpec::default()),
            pods: by_node([pod("a", "a", "new", "Ready"), pod("c", "c", "old", "Ready")]),
        };
        let (status, next) = of(&pass, false);
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            json!({"currentNumberScheduled": 1, "desiredNumberScheduled": 2,
                "numberMisscheduled": 1, "numberReady": 1, "numberUnavailable": 2,
                "updatedNumberScheduled": 1, "observedGeneration": 2})
        );
        assert_eq!(next, Some(Duration::from_secs(10)));
        assert_eq!(of(&pass, true).0.observed_generation, Some(3));
    }
}
