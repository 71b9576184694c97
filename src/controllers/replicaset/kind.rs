//! The kinds that say how many pods of a template there are.

use std::fmt::Debug;

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::{ReplicationController, ReplicationControllerStatus},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube_core::{NamespaceResourceScope, Resource};
use serde::de::DeserializeOwned;

/// A kind that can be seen as a ReplicaSet.
pub(crate) trait Replicated:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Whether the status counts the pods that are ending.
    const TELLS_TERMINATING: bool;

    /// The ReplicaSet that this would be. Only what the controller reads is in it.
    fn as_set(&self) -> ReplicaSet;
}

impl Replicated for ReplicaSet {
    const TELLS_TERMINATING: bool = true;

    fn as_set(&self) -> ReplicaSet {
        self.clone()
    }
}

impl Replicated for ReplicationController {
    const TELLS_TERMINATING: bool = false;

    fn as_set(&self) -> ReplicaSet {
        let spec = self.spec.clone().unwrap_or_default();
        let selector = LabelSelector { match_labels: spec.selector, ..LabelSelector::default() };
        ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: spec.replicas,
                selector,
                template: spec.template,
            },
            status: self.status.clone().map(status),
        }
    }
}

fn status(status: ReplicationControllerStatus) -> ReplicaSetStatus {
    let conditions = status.conditions.map(|conditions| {
        let condition =
            |it: k8s_openapi::api::core::v1::ReplicationControllerCondition| ReplicaSetCondition {
                last_transition_time: it.last_transition_time,
                message: it.message,
                reason: it.reason,
                status: Some(it.status),
                type_: Some(it.type_),
            };
        conditions.into_iter().map(condition).collect()
    });
    ReplicaSetStatus {
        available_replicas: status.available_replicas,
        conditions,
        fully_labeled_replicas: status.fully_labeled_replicas,
        observed_generation: status.observed_generation,
        ready_replicas: status.ready_replicas,
        replicas: status.replicas,
        terminating_replicas: None,
    }
}
