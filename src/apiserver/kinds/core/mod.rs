//! The core group.

pub(crate) mod namespace;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
pub(crate) mod secret;
pub(crate) mod service;
