//! Finalizers that controllers take off other objects.

use apimachinery::Object;
use client::{Api, Error, Patch, PatchParams, is_not_found};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

/// Whether `object` has the finalizer.
pub(crate) fn has(object: &Object, finalizer: &str) -> bool {
    #[derive(Deserialize)]
    struct Held {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        finalizers: Vec<Box<str>>,
    }
    let parsed = object.parse::<Held>();
    parsed.is_ok_and(|object| object.metadata.finalizers.iter().any(|one| **one == *finalizer))
}

/// Removes the finalizer from an object of a built-in kind, unless it has none or is gone.
pub(crate) async fn remove<K>(api: &Api<K>, object: &Object, finalizer: &str) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    if !has(object, finalizer) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": object.uid,
        "$deleteFromPrimitiveList/finalizers": [finalizer]}});
    match api.patch(&object.key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}
