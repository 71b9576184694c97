//! The node's lease: the heartbeat by which the control plane knows that the node is there.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{requests, shared::Shared};

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECONDS: i32 = 40;

/// Renews the lease, and makes it where there is none.
pub(crate) async fn renew(shared: &Shared) -> Result<(), requests::Error> {
    let name = &shared.config.node_name;
    let folder = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
    let time = apimachinery::time::format_micros(Timestamp::now());
    let patch = json!({"spec": {
        "holderIdentity": name,
        "leaseDurationSeconds": DURATION_SECONDS,
        "renewTime": time,
    }});
    match requests::merge(&shared.client, &format!("{folder}/{name}"), &patch).await {
        Err(error) if error.is_not_found() => {}
        done => return done,
    }
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": patch["spec"],
    });
    // The lease goes with the node.
    let node = requests::get(&shared.client, &format!("/api/v1/nodes/{name}")).await?;
    if let Some(uid) = node.pointer("/metadata/uid").and_then(Value::as_str) {
        lease["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
    }
    requests::post(&shared.client, &folder, &lease).await.map(drop)
}
