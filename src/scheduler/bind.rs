//! Writes decisions: the binding of a pod, or the condition that says why there is none, and where
//! room is made for it.

use apimachinery::Object;
use client::{Client, Error, Patch, PatchParams, PostParams};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::{framework::Nomination, pod::PodInfo};

/// Binds `pod` to `node` through the binding subresource.
pub(crate) async fn bind(client: &Client, pod: &PodInfo, node: &str) -> Result<(), Error> {
    let key = pod.key();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.uid()},
        "target": {"kind": "Node", "name": node},
    });
    let api = client.namespaced::<Pod>(&key.namespace);
    let _: Value =
        api.create_subresource("binding", &key.name, &PostParams::default(), &binding).await?;
    Ok(())
}

/// Sets the condition PodScheduled of `pod` to False and its nomination, unless its status says the
/// same already.
pub(crate) async fn mark_unschedulable(
    client: &Client,
    pod: &PodInfo,
    message: &str,
    nomination: &Nomination,
) -> Result<(), Error> {
    let mut status = Map::new();
    let known = pod.condition("PodScheduled");
    if known.is_none_or(|c| c.status != "False" || c.message.as_deref() != Some(message)) {
        let since = match known {
            Some(known) if known.status == "False" => json!(known.last_transition_time),
            _ => json!(apimachinery::time::now()),
        };
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message, "lastTransitionTime": since,
            "observedGeneration": pod.pod.metadata.generation,
        });
        status.insert("conditions".to_owned(), json!([condition]));
    }
    let node = match nomination {
        Nomination::Keep => pod.nominated_node(),
        Nomination::Clear => None,
        Nomination::Node(node) => Some(&**node),
    };
    if node != pod.nominated_node() {
        status.insert("nominatedNodeName".to_owned(), json!(node));
    }
    match status.is_empty() {
        true => Ok(()),
        false => patch_status(client, &pod.object, status).await,
    }
}

/// Ends the nomination of a pod in favour of another one.
pub(crate) async fn clear_nomination(client: &Client, pod: &Object) -> Result<(), Error> {
    let status = Map::from_iter([("nominatedNodeName".to_owned(), Value::Null)]);
    patch_status(client, pod, status).await
}

async fn patch_status(
    client: &Client,
    pod: &Object,
    status: Map<String, Value>,
) -> Result<(), Error> {
    let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
    let api = client.namespaced::<Pod>(&pod.key.namespace);
    api.patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    Ok(())
}
