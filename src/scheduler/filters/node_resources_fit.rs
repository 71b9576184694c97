//! The sum of requests stays within what a node can give.

use crate::{
    framework::{ClusterEvent, Filter, Rejection},
    node::NodeInfo,
    pod::PodInfo,
};

/// The pod's requests fit into what is left of the node.
pub struct NodeResourcesFit;

impl Filter for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let (asked, free, used) = (&pod.requests.stated, &node.allocatable, &node.requested);
        let mut reasons = Vec::new();
        let mut resolvable = true;
        if used.pods + 1 > free.pods {
            reasons.push("Too many pods".to_owned());
        }
        let mut check = |name: &str, asked: i64, allocatable: i64, used: i64| {
            if asked > 0 && asked > allocatable - used {
                reasons.push(format!("Insufficient {name}"));
                // More than the whole node: nobody's leaving helps.
                resolvable &= asked <= allocatable;
            }
        };
        check("cpu", asked.cpu, free.cpu, used.cpu);
        check("memory", asked.memory, free.memory, used.memory);
        check(
            "ephemeral-storage",
            asked.ephemeral_storage,
            free.ephemeral_storage,
            used.ephemeral_storage,
        );
        for (name, amount) in &asked.extended {
            let of = |of: &crate::resources::Resources| of.extended.get(name).copied().unwrap_or(0);
            check(name, *amount, of(free), of(used));
        }
        if reasons.is_empty() { Ok(()) } else { Err(Rejection { reasons, resolvable }) }
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        event != ClusterEvent::PodAssigned
    }
}
