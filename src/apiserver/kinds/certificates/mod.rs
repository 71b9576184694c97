//! `certificates.k8s.io`.

pub(crate) mod cluster_trust_bundle;
pub(crate) mod names;
pub(crate) mod pod_certificate_request;
mod pod_certificate_status;
pub(crate) mod signing_request;
