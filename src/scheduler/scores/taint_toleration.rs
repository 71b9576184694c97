//! Prefers nodes with fewer untolerated PreferNoSchedule taints.

use placement::taints::tolerates;

use crate::{
    framework::{Score, normalize_to_max},
    node::NodeInfo,
    pod::PodInfo,
};

/// The number of untolerated soft taints; fewer is better.
pub struct TaintToleration;

impl Score for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn weight(&self) -> i64 {
        3
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let untolerated = node.taints().iter().filter(|taint| {
            taint.effect == "PreferNoSchedule" && !tolerates(pod.tolerations(), taint)
        });
        untolerated.count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_max(scores, true);
    }
}
