//! How ready the kernel's OOM killer is to kill a container.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Qos, amount, has_pod_level, pod_requests, qos};
use crate::podspec::{PodExt, is_sidecar};

const GUARANTEED: i64 = -997;
const BEST_EFFORT: i64 = 1000;
/// Priority of system-node-critical.
const NODE_CRITICAL: i32 = 2_000_001_000;

/// `oom_score_adj` of a container: the less of its memory request it would use, the safer.
pub(crate) fn score_adjust(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    let node_critical = pod.spec_or_empty().priority.is_some_and(|p| p >= NODE_CRITICAL);
    let score = match qos(pod) {
        _ if node_critical => GUARANTEED,
        Qos::Guaranteed => GUARANTEED,
        Qos::BestEffort => BEST_EFFORT,
        Qos::Burstable => burstable(pod, container, memory_capacity.max(1)),
    };
    i32::try_from(score).unwrap_or(0)
}

fn memory_request(container: &Container) -> i64 {
    amount(container.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory").value()
}

fn burstable(pod: &Pod, container: &Container, capacity: i64) -> i64 {
    // What the pod requests beyond its containers is shared among them.
    let containers: Vec<&Container> = pod
        .containers()
        .iter()
        .chain(pod.init_containers().iter().filter(|c| is_sidecar(c)))
        .collect();
    let share = if has_pod_level(pod) && !containers.is_empty() {
        let pod_request = pod_requests(pod).get("memory").map_or(0, |amount| amount.value());
        let in_containers: i64 = containers.iter().map(|c| memory_request(c)).sum();
        (pod_request - in_containers).max(0) / i64::try_from(containers.len()).unwrap_or(1)
    } else {
        0
    };
    let score = |request: i64| 1000 - 1000i64.saturating_mul(request + share) / capacity;
    let mut adjust = score(memory_request(container));
    let sidecar =
        is_sidecar(container) && pod.init_containers().iter().any(|c| c.name == container.name);
    if sidecar {
        // A sidecar is not to die before the least of the containers that it serves.
        let least = pod.containers().iter().map(memory_request).min().unwrap_or(0);
        adjust = adjust.min(score(least));
    }
    adjust.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_more_requested_the_safer() {
        let pod = |request: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [
                {"name": "a", "resources": {"requests": {"memory": request}}}]}}))
            .unwrap()
        };
        let adjust = |request: &str| {
            let pod = pod(request);
            score_adjust(&pod, &pod.containers()[0], 1 << 30)
        };
        assert_eq!(adjust("1"), 999);
        assert_eq!(adjust("512Mi"), 500);
        assert_eq!(adjust("2Gi"), 3);
    }
}
