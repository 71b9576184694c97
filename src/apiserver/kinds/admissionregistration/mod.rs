//! `admissionregistration.k8s.io`.

pub(crate) mod webhooks;
