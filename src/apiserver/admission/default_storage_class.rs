//! DefaultStorageClass: a claim that names no class gets the one that is marked as the default.

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin, text};
use crate::kinds::value::{Fields as _, object_at};

pub(super) struct DefaultStorageClass;

const MARKS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.creates() && request.is_object("", "persistentvolumeclaims")
    }

    async fn mutate(&self, call: &Call<'_>, claim: &mut Value) -> Result<(), Status> {
        let annotations = &claim["metadata"]["annotations"];
        if annotations.has("volume.beta.kubernetes.io/storage-class")
            || claim["spec"].has("storageClassName")
        {
            return Ok(());
        }
        let class = newest_marked(call, "storage.k8s.io", "storageclasses", &MARKS);
        if let (Some(class), Some(spec)) = (class, object_at(claim, "spec")) {
            spec.insert("storageClassName".to_owned(), class.into());
        }
        Ok(())
    }
}

/// The newest of the classes with a mark; of two equally old the first by name.
pub(super) fn newest_marked(
    call: &Call<'_>,
    group: &str,
    resource: &str,
    marks: &[&str],
) -> Option<String> {
    let classes = call.list(group, resource)?;
    let marked = classes.iter().filter_map(|class| super::value(class)).filter(|class| {
        marks.iter().any(|mark| text(&class["metadata"]["annotations"], mark) == "true")
    });
    let newest = marked.reduce(|best, class| {
        // Times of one format order as their texts do; the list is ordered by name.
        let created = |class: &Value| text(&class["metadata"], "creationTimestamp").to_owned();
        if created(&class) > created(&best) { class } else { best }
    })?;
    Some(text(&newest["metadata"], "name").to_owned())
}
