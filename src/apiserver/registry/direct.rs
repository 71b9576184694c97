//! Writes that bypass the path of a PUT: a binding sets a field that no update may, an eviction
//! counts a budget down. Read, change, compare-and-swap, again if someone else was faster.

use std::sync::Arc;

use apimachinery::{Draft, Key, Object, Status};
use serde_json::Value;
use storage::{Write, WriteError};

use crate::{
    Shared,
    registry::{modify::stored_value, resource::Resource},
};

/// Changes the object at `key` by `change`, which may be called several times and says whether
/// there is anything to write. Nothing is written in a dry run.
///
/// # Errors
/// 404 when it is not there, whatever `change` refuses with, 500 when the store fails.
pub async fn edit(
    server: &Shared,
    resource: &Resource,
    key: &Key,
    dry_run: bool,
    mut change: impl FnMut(&Object, &mut Value) -> Result<bool, Status>,
) -> Result<Arc<Object>, Status> {
    let missing = || Status::not_found(&resource.group_resource, &key.name);
    let collection = resource.collection.as_ref().ok_or_else(missing)?;
    loop {
        let current = collection.get(key).ok_or_else(missing)?;
        let mut value = stored_value(&current)?;
        if !change(&current, &mut value)? || dry_run {
            return Ok(current);
        }
        let draft = Draft::new(&value, collection.fields()).map_err(Status::internal)?;
        let write = Write::Update { draft, expected: current.revision };
        match server.store.commit(collection, write).await {
            Ok(stored) => return Ok(stored),
            Err(WriteError::Conflict(_) | WriteError::NotFound) => {}
            Err(error) => return Err(Status::internal(error)),
        }
    }
}
