//! Two pods cannot hold one port of a node.

use crate::{
    framework::{ClusterEvent, Filter, Rejection},
    node::NodeInfo,
    pod::PodInfo,
};

/// The host ports of the pod are free on the node.
pub struct NodePorts;

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut taken = node.pods.iter().flat_map(|pod| &pod.ports);
        if taken.any(|held| pod.ports.iter().any(|wanted| held.conflicts(wanted))) {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::resolvable(reason));
        }
        Ok(())
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded | ClusterEvent::PodRemoved)
    }
}
