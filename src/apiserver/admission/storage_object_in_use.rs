//! StorageObjectInUseProtection: volumes, claims and attribute classes stay until nobody uses them;
//! controllers take the finalizers away.

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::object_at;

pub(super) struct StorageObjectInUseProtection;

const FINALIZERS: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

fn finalizer(request: &AdmissionRequest<'_>) -> Option<&'static str> {
    FINALIZERS
        .iter()
        .find(|(group, resource, _)| request.is_object(group, resource))
        .map(|(_, _, finalizer)| *finalizer)
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.creates() && finalizer(request).is_some()
    }

    async fn mutate(&self, call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
        let Some(finalizer) = finalizer(call.request) else { return Ok(()) };
        if let Some(metadata) = object_at(object, "metadata") {
            match metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
                Some(list) if list.iter().any(|there| there == finalizer) => {}
                Some(list) => list.push(finalizer.into()),
                None => drop(metadata.insert("finalizers".to_owned(), json!([finalizer]))),
            }
        }
        Ok(())
    }
}
