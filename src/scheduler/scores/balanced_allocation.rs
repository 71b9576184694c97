//! Prefers nodes that the pod makes fill up more evenly, so that neither CPU nor memory is left over
//! alone.

use crate::{
    framework::{MAX_SCORE, Score},
    node::NodeInfo,
    pod::PodInfo,
};

/// How much nearer to each other the used shares of CPU and memory are with the pod than without:
/// 75 when it changes nothing, 100 at best, 50 at worst.
pub struct BalancedAllocation;

impl Score for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        // As stated, not as ranked: a pod that asks for nothing does not change the balance, and
        // would go where the balance is best, every time.
        let (asked, used) = (&pod.requests.stated, &node.requested);
        if asked.cpu == 0 && asked.memory == 0 {
            return 0;
        }
        let with = balance(node, used.cpu + asked.cpu, used.memory + asked.memory);
        let without = balance(node, used.cpu, used.memory);
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    }
}

/// How even the used shares are: 100 when they are equal, 50 when one is all and the other nothing.
fn balance(node: &NodeInfo, cpu: i64, memory: i64) -> i64 {
    let share = |used: i64, allocatable: i64| match allocatable {
        0 => None,
        _ => Some((used as f64 / allocatable as f64).min(1.0)),
    };
    let shares = (share(cpu, node.allocatable.cpu), share(memory, node.allocatable.memory));
    // The standard deviation of two values is half their distance.
    let deviation = match shares {
        (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{asking, chosen, cluster, pod};

    #[test]
    fn what_makes_a_node_more_even_scores_higher() {
        let cache = cluster(&[("a", "4")]);
        let score = |pod: &PodInfo| BalancedAllocation.score(pod, &cache.nodes()[0]);
        assert_eq!(score(&asking("cpu", "2")), 62, "half of the CPU, no memory");
        let even = json!({"cpu": "2", "memory": "2Gi"});
        let container = json!({"name": "c", "resources": {"requests": even}});
        let even = pod(json!({"metadata": {"name": "even"}, "spec": {"containers": [container]}}));
        assert_eq!(score(&even), 75);
        assert_eq!(score(&pod(json!({"metadata": {"name": "none"}}))), 0);
        assert!(chosen(&cache, &even).is_ok());
    }
}
