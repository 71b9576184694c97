//! The status of a pod: computed from what runs and what was reported before, written as patches.

pub(crate) mod conditions;
pub(crate) mod containers;
pub(crate) mod finish;
pub(crate) mod generate;
pub(crate) mod patch;
pub(crate) mod phase;

#[cfg(test)]
mod tests;
