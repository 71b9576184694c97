//! Which pods (or other dependents) belong to a controller object: those it controls and whose
//! labels its selector matches. Orphans that match are adopted, controlled ones that no longer
//! match are released (upstream's `ControllerRefManager`).

use std::sync::Arc;

use apimachinery::{Key, Object, selector::labels::Selector};
use client::{
    Api, Change, Error, Informer, Patch, PatchParams, WorkQueue, informer::parse_or_warn,
    is_not_found,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube_core::{NamespaceResourceScope, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::debug;

/// The selector of an object's `spec.selector`; nothing where it would select everything.
pub(crate) fn selector_of(selector: &LabelSelector) -> Option<Selector> {
    let selector = serde_json::to_value(selector).ok()?;
    Selector::from_object(&selector).ok().filter(|selector| !selector.is_everything())
}

/// Index of objects that nothing controls, by namespace.
pub(crate) const ORPHANS: &str = "orphans";

/// Adds the index that adoption needs.
pub(crate) fn index_orphans(informer: &Informer) {
    informer.add_index(ORPHANS, |object| match object.controller() {
        Some(_) => Vec::new(),
        None => vec![object.key.namespace.clone()],
    });
}

/// The reference by which `owner` controls its dependents.
pub(crate) fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Queues those of `owners` whose selector matches `orphan`: they may want it.
pub(crate) fn queue_adopters<K: DeserializeOwned>(
    owners: &Informer,
    orphan: &Object,
    queue: &WorkQueue<Key>,
    selector: impl Fn(K) -> Option<Selector>,
) {
    for owner in owners.in_namespace(&orphan.key.namespace) {
        if parse_or_warn(&owner).and_then(&selector).is_some_and(|s| s.matches(orphan)) {
            queue.add(owner.key.clone());
        }
    }
}

/// The dependents of `owner` out of `informer`, after adopting and releasing through `api`.
/// An owner that is being deleted adopts nothing.
pub(crate) async fn claim<K, D>(
    owner: &K,
    selector: &Selector,
    informer: &Informer,
    api: &Api<D>,
) -> Result<Vec<Arc<Object>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    D: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    claim_matching(owner, |object| selector.matches(object), informer, api).await
}

/// The same for an owner that wants of its dependents something else than labels.
pub(crate) async fn claim_matching<K, D>(
    owner: &K,
    matches: impl Fn(&Object) -> bool,
    informer: &Informer,
    api: &Api<D>,
) -> Result<Vec<Arc<Object>>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    D: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let reference = controller_reference(owner);
    let namespace = owner.meta().namespace.as_deref().unwrap_or_default();
    let mut claimed = Vec::new();
    for object in informer.owned_by(&reference.uid) {
        if object.controller().is_none_or(|controller| *controller.uid != *reference.uid) {
            continue;
        }
        if matches(&object) {
            claimed.push(object);
        } else if owner.meta().deletion_timestamp.is_none() {
            release(api, &object, &reference.uid).await?;
        }
    }
    if owner.meta().deletion_timestamp.is_some() {
        return Ok(claimed);
    }
    for object in informer.indexed(ORPHANS, namespace) {
        if !object.deleting && matches(&object) && adopt(api, &object, &reference).await? {
            claimed.push(object);
        }
    }
    Ok(claimed)
}

async fn adopt<D>(api: &Api<D>, object: &Object, owner: &OwnerReference) -> Result<bool, Error>
where
    D: Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({"metadata": {"uid": object.uid, "ownerReferences": [owner]}});
    let patched =
        api.patch(&object.key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
    match patched {
        Ok(_) => {
            debug!(object = %object.key, owner = owner.name, "adopted");
            Ok(true)
        }
        Err(error) if is_not_found(&error) || client::is_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn release<D>(api: &Api<D>, object: &Object, owner: &str) -> Result<(), Error>
where
    D: Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({"metadata": {"uid": object.uid,
        "ownerReferences": [{"$patch": "delete", "uid": owner}]}});
    let patched =
        api.patch(&object.key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
    match patched {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) || client::is_conflict(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whom a change of a dependent concerns: its controller, and the one that it had before, as far as
/// they are of `kind`.
pub(crate) fn concerned(change: &Change, kind: &str) -> impl Iterator<Item = Key> {
    let owner = controller_key(change.object(), kind);
    let previous = change.previous().and_then(|old| controller_key(old, kind));
    let previous = previous.filter(|previous| Some(previous) != owner.as_ref());
    owner.into_iter().chain(previous)
}

/// The key of the controller of `object`, if it is of `kind`.
pub(crate) fn controller_key(object: &Object, kind: &str) -> Option<Key> {
    let owner = object.controller().filter(|owner| &*owner.kind == kind)?;
    Some(Key::new(object.key.namespace.clone(), owner.name.clone()))
}
