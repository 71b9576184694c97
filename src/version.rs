//! Which Kubernetes this is.

/// The version of Kubernetes whose API this is.
pub(crate) const KUBERNETES: &str = "v1.37.2";
