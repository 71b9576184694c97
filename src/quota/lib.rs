//! What objects use of a namespace's quotas: upstream's `pkg/quota/v1` with its evaluators.
//!
//! Admission asks before a write whether it still fits; the quota controller counts what there is.
//! Both see objects of the storage version as JSON.

pub mod amounts;
pub mod evaluate;
pub mod pod;
mod scope;

pub use amounts::Amounts;
pub use evaluate::{constraints, count_name, matching, usage};
pub use scope::{Scope, scopes};
