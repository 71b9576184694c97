//! Writes decisions: the binding of a pod, or the condition that says why there is none.

use client::{Client, Error, Patch, PatchParams, PostParams};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::pod::PodInfo;

/// Binds `pod` to `node` through the binding subresource.
pub(crate) async fn bind(client: &Client, pod: &PodInfo, node: &str) -> Result<(), Error> {
    let meta = &pod.pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "namespace": meta.namespace, "uid": meta.uid},
        "target": {"kind": "Node", "name": node},
    });
    let api = client.namespaced::<Pod>(meta.namespace.as_deref().unwrap_or_default());
    let _: Value =
        api.create_subresource("binding", name, &PostParams::default(), &binding).await?;
    Ok(())
}

/// Sets the condition PodScheduled of `pod` to False, unless it says the same already.
pub(crate) async fn mark_unschedulable(
    client: &Client,
    pod: &PodInfo,
    message: &str,
) -> Result<(), Error> {
    let meta = &pod.pod.metadata;
    let conditions = pod.pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    let known = conditions.unwrap_or_default().iter().find(|c| c.type_ == "PodScheduled");
    if known.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(message)) {
        return Ok(());
    }
    let since = match known {
        Some(known) if known.status == "False" => json!(known.last_transition_time),
        _ => json!(apimachinery::time::now()),
    };
    let patch = json!({
        "metadata": {"uid": meta.uid},
        "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message, "lastTransitionTime": since, "observedGeneration": meta.generation,
        }]},
    });
    let api = client.namespaced::<Pod>(meta.namespace.as_deref().unwrap_or_default());
    let name = meta.name.as_deref().unwrap_or_default();
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    Ok(())
}
