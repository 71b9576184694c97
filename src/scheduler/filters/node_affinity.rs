//! Node selectors and required node affinity.

use placement::affinity;

use crate::{
    framework::{ClusterEvent, Filter, Rejection},
    node::NodeInfo,
    pod::PodInfo,
};

/// The node has the labels that the pod requires.
pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.spec().is_none_or(|spec| affinity::admits(spec, &*node.node)) {
            Ok(())
        } else {
            Err(Rejection::final_("node(s) didn't match Pod's node affinity/selector"))
        }
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded | ClusterEvent::NodeChanged)
    }
}
