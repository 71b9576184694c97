//! Prefers nodes with fewer untolerated PreferNoSchedule taints.

use crate::{
    cache::NodeInfo,
    filters::tolerates,
    framework::{Score, normalize_to_max},
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
        let taints = node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
        let untolerated = taints
            .unwrap_or_default()
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint));
        untolerated.count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_max(scores, true);
    }
}
