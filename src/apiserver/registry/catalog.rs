//! From the table of built-in resources to resources with schemas, hooks and collections.

use std::sync::Arc;

use apimachinery::{GroupResource, GroupVersionKind, schema};
use storage::{Durability, Store};

use crate::{
    kinds,
    registry::{
        builtin,
        resource::{Resource, Version},
    },
    shared::StartError,
};

/// Loads every built-in resource.
///
/// # Errors
/// When a schema is missing or a collection cannot be opened.
pub async fn builtin(store: &Store) -> Result<Vec<Arc<Resource>>, StartError> {
    let mut all: Vec<Vec<schema::Resource>> = Vec::new();
    for facts in schema::builtin_resources() {
        let same = |known: &Vec<schema::Resource>| {
            known[0].group == facts.group && known[0].plural == facts.plural
        };
        match all.iter().position(same) {
            Some(at) => all[at].push(facts),
            None => all.push(vec![facts]),
        }
    }
    let mut resources = Vec::with_capacity(all.len());
    for versions in all {
        resources.push(Arc::new(resource(store, versions).await?));
    }
    Ok(resources)
}

/// A resource from what is known of each of its versions, the preferred one first, which is also
/// the stored one.
async fn resource(store: &Store, all: Vec<schema::Resource>) -> Result<Resource, StartError> {
    let mut versions = Vec::with_capacity(all.len());
    for facts in all {
        let schema = schema::builtin(&facts.group, &facts.version, &facts.kind)
            .ok_or_else(|| StartError::Schema(facts.kind.clone()))?;
        let mut version = Version::new(facts, schema);
        version.deprecation = deprecation(&version.gvk);
        versions.push(version);
    }
    let facts = &versions[0].facts;
    // Both groups of events are one store.
    let stored_group = if facts.plural == "events" { "" } else { &facts.group };
    let storage = GroupVersionKind::new(stored_group, &facts.version, &facts.kind);
    let stored = GroupResource::new(stored_group, &facts.plural);
    let traits = builtin::traits(&facts.group, &facts.plural, facts.returns_deleted);
    let hooks = kinds::hooks(&stored);
    let durability = if traits.volatile { Durability::Volatile } else { Durability::Durable };
    // What cannot be watched is not stored: reviews, bindings, component statuses.
    let collection = match facts.verbs.iter().any(|verb| verb == "watch") {
        true => Some(store.collection(&stored, hooks.fields(), durability).await?),
        false => None,
    };
    Ok(Resource {
        group_resource: GroupResource::new(&facts.group, &facts.plural),
        namespaced: facts.namespaced,
        storage,
        collection,
        versions,
        hooks,
        traits,
        definition: None,
    })
}

/// What clients of a deprecated kind are warned of.
fn deprecation(gvk: &GroupVersionKind) -> Option<String> {
    let text = match (&*gvk.group, &*gvk.version, &*gvk.kind) {
        ("", "v1", "ComponentStatus") => "v1 ComponentStatus is deprecated in v1.19+",
        ("", "v1", "Endpoints") => {
            "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
