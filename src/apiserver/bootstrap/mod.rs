//! What a cluster holds before anyone has written to it: namespaces, roles, priority classes, the
//! `kubernetes` Service. Reconciled at every start.

mod fairness;
mod kubernetes;
mod policy;
mod rbac;
mod write;

use apimachinery::Status;
use serde_json::{Value, json};

use self::write::create;
use crate::{Shared, authorization::rules::PolicyRule};

/// Creates what is missing and repairs what upstream repairs at start. Idempotent.
///
/// # Errors
/// When the store refuses a write.
pub async fn run(server: &Shared) -> Result<(), Status> {
    let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"].map(namespace);
    futures::future::try_join_all(
        namespaces.map(|object| create(server, "", "namespaces", object)),
    )
    .await?;
    futures::future::try_join4(
        rbac::reconcile(server),
        fairness::reconcile(server),
        priority_classes(server),
        kubernetes::reconcile(server),
    )
    .await?;
    Ok(())
}

/// What every node may do: the rules of the `system:node` role, which the node authorizer grants.
pub fn node_rules() -> Vec<PolicyRule> {
    policy::rules_of("system:node")
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// The two classes that are above all others.
pub const SYSTEM_PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

async fn priority_classes(server: &Shared) -> Result<(), Status> {
    for (name, value, description) in SYSTEM_PRIORITIES {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name, "generation": 1},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        });
        create(server, "scheduling.k8s.io", "priorityclasses", class).await?;
    }
    Ok(())
}
