//! How controllers write a status.

use std::fmt::Debug;

use client::{Client, Patch, PatchParams, controller::ReconcileError, is_not_found};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::{NamespaceResourceScope, Resource};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A kind whose status can be written.
pub(crate) trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}

impl<K> Reported for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
{
}

/// Brings the status of `object` from `before` to `after`, if there is a difference and the object
/// is still there.
pub(crate) async fn write_status<K: Reported, S: Serialize + PartialEq>(
    client: &Client,
    object: &K,
    before: &S,
    after: &S,
) -> Result<(), ReconcileError> {
    match before == after {
        true => Ok(()),
        false => {
            send::<K>(client, object.meta(), status_patch(object.meta(), before, after)?).await
        }
    }
}

/// The same over nothing but the revision of `object`: for a status that remembers what else would
/// be done twice, or that others write too.
pub(crate) async fn write_status_at<K: Reported, S: Serialize + PartialEq>(
    client: &Client,
    object: &K,
    before: &S,
    after: &S,
) -> Result<(), ReconcileError> {
    if before == after {
        return Ok(());
    }
    let meta = object.meta();
    let mut patch = status_patch(meta, before, after)?;
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    send::<K>(client, meta, patch).await
}

async fn send<K: Reported>(
    client: &Client,
    meta: &ObjectMeta,
    patch: Value,
) -> Result<(), ReconcileError> {
    let api = client.namespaced::<K>(meta.namespace.as_deref().unwrap_or_default());
    let name = meta.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// The merge patch that brings the status of the object with `meta` from `before` to `after`. A
/// merge patch leaves alone what it does not name, so what is no longer there becomes null.
pub(crate) fn status_patch<S: Serialize>(
    meta: &ObjectMeta,
    before: &S,
    after: &S,
) -> serde_json::Result<Value> {
    let mut status = serde_json::to_value(after)?;
    bury(&serde_json::to_value(before)?, &mut status);
    Ok(json!({"metadata": {"uid": meta.uid}, "status": status}))
}

fn bury(before: &Value, after: &mut Value) {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object_mut()) else { return };
    for (field, old) in before {
        match after.get_mut(field) {
            Some(new) => bury(old, new),
            None => drop(after.insert(field.clone(), Value::Null)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_gone_become_null_at_every_depth() {
        let before = json!({"a": 1, "b": {"c": [1], "d": [2]}});
        let after = json!({"b": {"d": [3]}, "e": 4});
        let patch = status_patch(&ObjectMeta::default(), &before, &after).unwrap();
        let wanted = json!({"a": null, "b": {"c": null, "d": [3]}, "e": 4});
        assert_eq!(patch["status"], wanted);
    }
}
