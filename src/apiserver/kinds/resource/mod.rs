//! `resource.k8s.io`.

mod attributes;
mod capacity;
mod claim;
mod declarations;
mod device;
pub(crate) mod device_class;
pub(crate) mod device_taint_rule;
mod parts;
pub(crate) mod resource_claim;
pub(crate) mod resource_claim_template;
pub(crate) mod resource_slice;
mod selector;
mod status;
