//! From the table of built-in resources to resources with schemas, hooks and collections.

use std::sync::Arc;

use apimachinery::{GroupResource, GroupVersionKind, schema};
use storage::{Durability, Store};

use crate::{
    kinds,
    registry::{
        builtin::{ROWS, Row},
        resource::{Resource, Subresource, Version},
    },
    shared::StartError,
};

/// Loads every built-in resource.
///
/// # Errors
/// When a schema is missing or a collection cannot be opened.
pub async fn builtin(store: &Store) -> Result<Vec<Arc<Resource>>, StartError> {
    let mut all = Vec::with_capacity(ROWS.len());
    for row in ROWS {
        all.push(Arc::new(resource(store, row).await?));
    }
    Ok(all)
}

async fn resource(store: &Store, row: &'static Row) -> Result<Resource, StartError> {
    let mut versions = Vec::with_capacity(row.versions.len());
    for name in row.versions {
        let gvk = GroupVersionKind::new(row.group, name, row.kind);
        let schema = schema::builtin(row.group, name, row.kind)
            .ok_or_else(|| StartError::Schema(gvk.to_string()))?;
        let list_kind = format!("{}List", row.kind);
        let mut version = Version::new(gvk, &list_kind, schema);
        version.subresources = row.subresources.iter().map(Subresource::builtin).collect();
        version.deprecation = deprecation(row.group, name, row.kind);
        versions.push(version);
    }
    // Both groups of events are one store.
    let stored_group = if row.plural == "events" { "" } else { row.group };
    let storage = GroupVersionKind::new(stored_group, row.versions[0], row.kind);
    let stored = GroupResource::new(stored_group, row.plural);
    let hooks = kinds::hooks(&stored);
    let durability = if row.volatile { Durability::Volatile } else { Durability::Durable };
    let collection = match row.stored {
        true => Some(store.collection(&stored, hooks.fields(), durability).await?),
        false => None,
    };
    Ok(Resource::builtin(row, versions, storage, collection, hooks))
}

/// What clients of a deprecated kind are warned of.
fn deprecation(group: &str, version: &str, kind: &str) -> Option<String> {
    let text = match (group, version, kind) {
        ("", "v1", "ComponentStatus") => "v1 ComponentStatus is deprecated in v1.19+",
        ("", "v1", "Endpoints") => {
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
