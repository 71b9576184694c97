//! Prefers nodes by the weights of preferred node affinity.

use placement::affinity;

use crate::{
    framework::{Score, normalize_to_max},
    node::NodeInfo,
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
        pod.spec().map_or(0, |spec| affinity::preference(spec, &*node.node))
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_max(scores, false);
    }
}
