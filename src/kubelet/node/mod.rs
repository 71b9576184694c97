//! The node itself: its object, its status, its lease.

pub(crate) mod lease;
pub(crate) mod machine;
pub(crate) mod status;
pub(crate) mod watcher;
