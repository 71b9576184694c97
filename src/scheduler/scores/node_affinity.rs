//! Prefers nodes by the weights of preferred node affinity.

use crate::{
    cache::NodeInfo,
    filters::matches_term,
    framework::{Score, normalize_to_max},
    pod::PodInfo,
};

/// The sum of the weights of the preferred terms that the node matches.
pub struct NodeAffinity;

impl Score for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let preferred = pod
            .spec()
            .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref())
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        preferred
            .unwrap_or_default()
            .iter()
            .filter(|term| matches_term(&term.preference, &node.node))
            .map(|term| i64::from(term.weight))
            .sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_max(scores, false);
    }
}
