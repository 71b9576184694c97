//! Prefers nodes whose CPU and memory fill up evenly, so that neither is left over alone.

use crate::{
    framework::{MAX_SCORE, Score},
    node::NodeInfo,
    pod::PodInfo,
};

/// The nearness of the used shares of CPU and memory once the pod is there.
pub struct BalancedAllocation;

impl Score for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        // As stated, not as ranked: upstream leaves pods without requests out of the balance.
        let (asked, used) = (&pod.requests.stated, &node.requested);
        let share = |allocatable: i64, used: i64| match allocatable {
            0 => 0.0,
            _ => (used as f64 / allocatable as f64).min(1.0),
        };
        let cpu = share(node.allocatable.cpu, used.cpu + asked.cpu);
        let memory = share(node.allocatable.memory, used.memory + asked.memory);
        // The standard deviation of two values is half their distance.
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
    }
}
