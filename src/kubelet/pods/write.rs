//! Telling the API server: the status of a pod, and that the pod is gone.

use std::sync::Arc;

use apimachinery::Object;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

use super::mailbox::Mailbox;
use crate::{requests, shared::Shared, status::patch::status_patch};

/// Fields that only the kubelet writes, so that it may also remove them.
const REMOVABLE: &[&str] = &[
    "reason",
    "message",
    "podIP",
    "podIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// The patch that brings the API server's `object` to `status`, if one is needed.
pub(super) fn patch(object: &Object, status: &PodStatus) -> Option<Value> {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        status: Value,
    }
    let old = object.parse::<Body>().map(|body| body.status).unwrap_or_default();
    let new = serde_json::to_value(status).ok()?;
    let change = status_patch(&old, &new, REMOVABLE)?;
    Some(json!({"metadata": {"uid": &*object.uid}, "status": change}))
}

/// Writes a status, and leaves the answer in the mailbox.
pub(super) fn write(shared: &Arc<Shared>, mailbox: &Arc<Mailbox>, object: &Object, patch: Value) {
    let key = &object.key;
    let path = format!("/api/v1/namespaces/{}/pods/{}/status", key.namespace, key.name);
    let (shared, mailbox) = (shared.clone(), mailbox.clone());
    tokio::spawn(async move {
        let answer = requests::patch(&shared.client, &path, &patch).await;
        mailbox.leave(|inbox| inbox.written = Some(answer));
    });
}

/// Deletes the pod for good, and leaves the answer in the mailbox.
pub(super) fn delete(shared: &Arc<Shared>, mailbox: &Arc<Mailbox>, object: &Object) {
    let (key, uid) = (object.key.clone(), object.uid.clone());
    let (shared, mailbox) = (shared.clone(), mailbox.clone());
    tokio::spawn(async move {
        let answer = requests::delete_pod(&shared.client, &key.namespace, &key.name, &uid).await;
        mailbox.leave(|inbox| inbox.deleted = Some(answer));
    });
}
