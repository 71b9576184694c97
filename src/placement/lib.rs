//! The rules by which pods and nodes suit each other: upstream's
//! `component-helpers/scheduling/corev1` and `component-helpers/resource`.
//!
//! The scheduler chooses nodes by them, the kubelet refuses pods by them, and controllers ask which
//! nodes a pod could go to; admission knows by them what is harmless on any node.

pub mod affinity;
pub mod ports;
pub mod requests;
pub mod sysctls;
pub mod taints;

use k8s_openapi::api::core::v1::Container;

/// Whether an init container runs beside the regular ones (KEP-753).
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}
