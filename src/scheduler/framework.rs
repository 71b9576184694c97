//! The extension points of scheduling, as upstream's framework names them, and the plugins that
//! are built in. Adding one is a file in `filters/` or `scores/` and a line in [`Plugins`].

use crate::{cache::NodeInfo, filters, pod::PodInfo, scores};

/// The highest score of a node.
pub const MAX_SCORE: i64 = 100;

/// Why a node cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reasons, in upstream's words: users search for them.
    pub reasons: Vec<String>,
    /// Whether the node could take the pod if others left it.
    pub resolvable: bool,
}

impl Rejection {
    /// A reason that goes away when pods leave the node.
    pub fn resolvable(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }

    /// A reason that stays whatever pods leave.
    pub fn final_(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

/// What happened in the cluster that may help a pod that found no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    /// A node joined.
    NodeAdded,
    /// The spec, labels or resources of a node changed.
    NodeChanged,
    /// A pod got a node.
    PodAssigned,
    /// A pod that had a node is gone or over.
    PodRemoved,
}

/// Rules out nodes.
pub trait Filter: Send + Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;

    /// Whether `node` can take `pod`.
    ///
    /// # Errors
    /// With the reasons, when it cannot.
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection>;

    /// Whether a pod that this filter ruled out should be tried again after `event` (upstream's
    /// queueing hints).
    fn helped_by(&self, event: ClusterEvent) -> bool;
}

/// Ranks the nodes that are left.
pub trait Score: Send + Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;

    /// How much the score counts.
    fn weight(&self) -> i64;

    /// How well `node` suits `pod`; the scale is the plugin's own until normalized.
    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes to 0..=100.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// The plugins in the order in which they run.
pub struct Plugins {
    /// Cheap and decisive filters first.
    pub filters: Vec<Box<dyn Filter>>,
    /// Their order does not matter.
    pub scores: Vec<Box<dyn Score>>,
}

impl Default for Plugins {
    /// Upstream's default profile, as far as it is there.
    fn default() -> Self {
        Self {
            filters: vec![
                Box::new(filters::NodeUnschedulable),
                Box::new(filters::NodeName),
                Box::new(filters::TaintToleration),
                Box::new(filters::NodeAffinity),
                Box::new(filters::NodePorts),
                Box::new(filters::NodeResourcesFit),
            ],
            scores: vec![
                Box::new(scores::TaintToleration),
                Box::new(scores::NodeAffinity),
                Box::new(scores::LeastAllocated),
                Box::new(scores::BalancedAllocation),
            ],
        }
    }
}

/// Scales scores so that the highest becomes 100; `reverse` makes the lowest the best.
pub fn normalize_to_max(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { *score * MAX_SCORE / highest };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
