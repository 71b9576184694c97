//! A pod with what scheduling asks of it worked out once.

use std::sync::Arc;

use apimachinery::{Key, Object};
use client::informer::parse_or_warn;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, Toleration};
use placement::ports::{HostPort, host_ports};

use crate::{DEFAULT_SCHEDULER, resources::Requests};

/// A pod to be placed.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// The pod as it is stored.
    pub object: Arc<Object>,
    /// The same, parsed.
    pub pod: Pod,
    /// What it asks for.
    pub requests: Requests,
    /// Ports that it takes on its node.
    pub ports: Vec<HostPort>,
}

impl PodInfo {
    /// Reads a pod and works out what it asks for. One that does not parse is logged.
    pub(crate) fn read(object: &Arc<Object>) -> Option<Self> {
        let pod: Pod = parse_or_warn(object)?;
        let (requests, ports) = match &pod.spec {
            Some(spec) => (Requests::of(spec), host_ports(spec)),
            None => Default::default(),
        };
        Some(Self { object: object.clone(), pod, requests, ports })
    }

    /// Namespace and name.
    pub fn key(&self) -> &Key {
        &self.object.key
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.object.uid
    }

    /// The spec; the API refuses pods without one.
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// The node that it is assigned to.
    pub fn node(&self) -> Option<&str> {
        self.spec()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The node where room is made for it, as far as the API knows.
    pub fn nominated_node(&self) -> Option<&str> {
        let status = self.pod.status.as_ref()?;
        status.nominated_node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// `spec.priority`.
    pub fn priority(&self) -> i32 {
        self.spec().and_then(|spec| spec.priority).unwrap_or(0)
    }

    /// `spec.tolerations`.
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }

    /// The condition of that type.
    pub(crate) fn condition(&self, type_: &str) -> Option<&PodCondition> {
        let conditions = self.pod.status.as_ref()?.conditions.as_deref()?;
        conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether all its containers have ended for good, so that it takes up nothing.
    pub(crate) fn is_over(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Whether it is on its way out because a scheduler made room for another.
    pub(crate) fn is_preempted(&self) -> bool {
        self.object.deleting
            && self.condition("DisruptionTarget").is_some_and(|condition| {
                condition.status == "True"
                    && condition.reason.as_deref() == Some("PreemptionByScheduler")
            })
    }

    /// Whether it asks for this scheduler, is not being deleted, and no gate holds it back
    /// (KEP-3521: the API server sets the condition of gated pods).
    pub(crate) fn is_ours(&self) -> bool {
        let Some(spec) = self.spec() else { return false };
        spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER) == DEFAULT_SCHEDULER
            && !self.object.deleting
            && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
    }
}
