//! Taints keep pods away that do not tolerate them.

use placement::taints;

use crate::{
    framework::{ClusterEvent, Filter, Rejection},
    node::NodeInfo,
    pod::PodInfo,
};

/// The pod tolerates the taints of the node that keep pods away.
pub struct TaintToleration;

impl Filter for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let effects = ["NoSchedule", "NoExecute"];
        match taints::untolerated(node.taints(), pod.tolerations(), &effects) {
            None => Ok(()),
            Some(_) => Err(Rejection::final_("node(s) had untolerated taint(s)")),
        }
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded | ClusterEvent::NodeChanged)
    }
}
