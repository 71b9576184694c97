//! The extension points of scheduling, as upstream's framework names them, and the plugins that
//! are built in. Adding one is a file in `filters/` or `scores/` and a line in [`Plugins`].

use std::sync::Arc;

use crate::{
    filters,
    node::{NodeInfo, Placed},
    pod::PodInfo,
    preemption::{self, Budget},
    scores,
};

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
    /// A pod that had a node is gone or over, or one for which room was made wants it no longer.
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

/// A node that a filter ruled out.
pub struct Rejected<'a> {
    /// The node.
    pub node: &'a NodeInfo,
    /// The name of the filter.
    pub by: &'static str,
    /// Why.
    pub why: Rejection,
}

/// A pod that no node can take, as things are.
pub struct Failure<'a> {
    /// The pod.
    pub pod: &'a PodInfo,
    /// All nodes.
    pub rejected: Vec<Rejected<'a>>,
    /// To try again what the filters say.
    pub plugins: &'a Plugins,
    /// Reads the PodDisruptionBudgets, which few cycles need.
    pub budgets: &'a dyn Fn() -> Vec<Budget>,
}

/// What happens to the nomination of a pod that found no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nomination {
    /// It stays as it is.
    Keep,
    /// It ends.
    Clear,
    /// It is for this node.
    Node(Box<str>),
}

/// What can be done for a pod that found no node.
#[derive(Debug)]
pub struct Help {
    /// What is said after the reasons of the filters.
    pub message: String,
    /// Where room is made for the pod.
    pub nomination: Nomination,
    /// The pods that have to go for it.
    pub victims: Vec<Arc<Placed>>,
}

/// Looks for a way to make a node able to take a pod that none can take. It decides; the scheduling
/// cycle carries out.
pub trait PostFilter: Send + Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;

    /// What can be done.
    fn help(&self, failure: &Failure<'_>) -> Help;
}

/// The plugins in the order in which they run.
pub struct Plugins {
    /// Cheap and decisive filters first.
    pub filters: Vec<Box<dyn Filter>>,
    /// Their order does not matter.
    pub scores: Vec<Box<dyn Score>>,
    /// What comes after the filters when no node is left.
    pub post_filter: Box<dyn PostFilter>,
}

impl Plugins {
    /// Whether `node` can take `pod`, and leaves the pods of equal or higher priority the room that
    /// is made for them there.
    ///
    /// # Errors
    /// With the filter that says no, and why.
    pub fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), (&'static str, Rejection)> {
        let mut rivals = node
            .nominated
            .iter()
            .filter(|other| other.priority >= pod.priority() && other.uid() != pod.uid())
            .peekable();
        if rivals.peek().is_some() {
            let mut fuller = node.clone();
            rivals.for_each(|rival| fuller.add(rival.clone()));
            self.filter_as_is(pod, &fuller)?;
        }
        // Without them too: whether they come is not certain.
        self.filter_as_is(pod, node)
    }

    fn filter_as_is(
        &self,
        pod: &PodInfo,
        node: &NodeInfo,
    ) -> Result<(), (&'static str, Rejection)> {
        self.filters.iter().try_for_each(|filter| {
            filter.filter(pod, node).map_err(|rejection| (filter.name(), rejection))
        })
    }
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
            post_filter: Box::new(preemption::DefaultPreemption),
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
