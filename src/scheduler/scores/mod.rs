//! Scores: what makes one node better than another. One file each.

mod balanced_allocation;
mod least_allocated;
mod node_affinity;
mod taint_toleration;

pub use balanced_allocation::BalancedAllocation;
pub use least_allocated::LeastAllocated;
pub use node_affinity::NodeAffinity;
pub use taint_toleration::TaintToleration;
