//! A pod that names its node goes there or nowhere.

use crate::{
    framework::{ClusterEvent, Filter, Rejection},
    node::NodeInfo,
    pod::PodInfo,
};

/// `spec.nodeName` is the node's name, if set.
pub struct NodeName;

impl Filter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match pod.node() {
            Some(name) if name != node.name() => {
                Err(Rejection::final_("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::NodeAdded
    }
}
