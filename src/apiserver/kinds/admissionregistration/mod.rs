//! `admissionregistration.k8s.io`.

pub(crate) mod bindings;
mod match_resources;
mod mutations;
pub(crate) mod policies;
pub(crate) mod webhooks;
