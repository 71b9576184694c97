//! Two pods cannot hold one port of a node.

use crate::{
    cache::NodeInfo,
    framework::{ClusterEvent, Filter, Rejection},
    pod::PodInfo,
};

/// The host ports of the pod are free on the node.
pub struct NodePorts;

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = |wanted| node.ports.iter().any(|(_, held)| held.conflicts(wanted));
        if pod.ports.iter().any(taken) {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::resolvable(reason));
        }
        Ok(())
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded | ClusterEvent::PodRemoved)
    }
}
