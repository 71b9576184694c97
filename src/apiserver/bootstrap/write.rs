//! Writes of the server itself, complete objects straight into the store.

use std::sync::Arc;

use apimachinery::{Draft, GroupResource, Object, Status};
use serde_json::{Value, json};
use storage::{Collection, Write, WriteError};

use crate::Shared;

fn collection(server: &Shared, group: &str, resource: &str) -> Result<Collection, Status> {
    server.collection(group, resource).ok_or_else(|| {
        Status::internal(format!("no such resource: {}", GroupResource::new(group, resource)))
    })
}

fn draft(collection: &Collection, object: &Value) -> Result<Draft, Status> {
    Draft::new(object, collection.fields()).map_err(Status::internal)
}

/// Creates `object` with a UID and the present as its age, unless there is one of its name: that
/// is returned as it is.
pub(super) async fn create(
    server: &Shared,
    group: &str,
    resource: &str,
    mut object: Value,
) -> Result<Arc<Object>, Status> {
    let collection = collection(server, group, resource)?;
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    if let Some(known) = server.get(group, resource, text("namespace"), text("name")) {
        return Ok(known);
    }
    object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
    object["metadata"]["creationTimestamp"] = json!(apimachinery::time::now());
    let draft = draft(&collection, &object)?;
    match server.store.commit(&collection, Write::Create(draft)).await {
        Ok(object) | Err(WriteError::Exists(object)) => Ok(object),
        Err(error) => Err(Status::internal(error)),
    }
}

/// Changes a stored object by `change`, which says whether it did anything, until no one else
/// writes in between. One that is gone stays gone.
pub(super) async fn update(
    server: &Shared,
    group: &str,
    resource: &str,
    object: Arc<Object>,
    change: impl Fn(&mut Value) -> bool,
) -> Result<(), Status> {
    let collection = collection(server, group, resource)?;
    let mut current = object;
    loop {
        let mut value = current.value().map_err(Status::internal)?;
        if !change(&mut value) {
            return Ok(());
        }
        let write =
            Write::Update { draft: draft(&collection, &value)?, expected: current.revision };
        current = match server.store.commit(&collection, write).await {
            Ok(_) | Err(WriteError::NotFound) => return Ok(()),
            Err(WriteError::Conflict(newer)) => newer,
            Err(error) => return Err(Status::internal(error)),
        };
    }
}
