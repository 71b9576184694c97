//! Prefers nodes with more left over (the scoring half of upstream's NodeResourcesFit).

use crate::{
    framework::{MAX_SCORE, Score},
    node::NodeInfo,
    pod::PodInfo,
};

/// The mean of the free shares of CPU and memory once the pod is there.
pub struct LeastAllocated;

impl Score for LeastAllocated {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (asked, used) = (&pod.requests.ranked, &node.ranked);
        let shares = [
            free_share(node.allocatable.cpu, used.cpu + asked.cpu),
            free_share(node.allocatable.memory, used.memory + asked.memory),
        ];
        let known: Vec<i64> = shares.into_iter().flatten().collect();
        match known.len() {
            0 => 0,
            count => known.iter().sum::<i64>() / count as i64,
        }
    }
}

fn free_share(allocatable: i64, used: i64) -> Option<i64> {
    match allocatable {
        0 => None,
        _ if used > allocatable => Some(0),
        _ => Some(
            (i128::from(allocatable - used) * i128::from(MAX_SCORE) / i128::from(allocatable))
                as i64,
        ),
    }
}
