//! What becomes of one object: it goes when all its owners are gone, it loses references to owners
//! that do not exist, and if it is an owner on its way out, its dependents go first or are let go.

use apimachinery::Key;
use client::{
    DeleteParams, Error, Patch, PatchParams, Preconditions, PropagationPolicy,
    controller::{Action, ReconcileError},
    is_not_found,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::DynamicObject;
use serde_json::json;
use tracing::{debug, info};

use super::{Collector, Identity};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// How an owner is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It exists.
    Solid,
    /// It is gone, or another object has its name now.
    Absent,
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
}

/// Decides on one object.
pub(super) async fn process(
    collector: &Collector,
    identity: Identity,
) -> Result<Action, ReconcileError> {
    let Some(kind) = collector.kind_of(&identity.resource) else { return Ok(Action::Done) };
    let api = kind.api(&collector.context.client, &identity.key.namespace);
    let object = match api.get_metadata(&identity.key.name).await {
        Ok(object) if object.metadata.uid.as_deref() == Some(&*identity.uid) => object.metadata,
        Ok(_) => return Ok(Action::Done),
        Err(error) if is_not_found(&error) => return Ok(Action::Done),
        Err(error) => return Err(error.into()),
    };
    let has = |finalizer: &str| object.finalizers.iter().flatten().any(|known| known == finalizer);
    if object.deletion_timestamp.is_some() {
        if has(ORPHAN) {
            orphan_dependents(collector, &identity).await?;
            remove_finalizer(&api, &identity, &object, ORPHAN).await?;
            return Ok(Action::Done);
        }
        if has(FOREGROUND) {
            if blocking_dependents(collector, &identity)? == 0 {
                remove_finalizer(&api, &identity, &object, FOREGROUND).await?;
                return Ok(Action::Done);
            }
            for dependent in dependents(collector, &identity) {
                collector.queue.add(dependent);
            }
        }
        return Ok(Action::Done);
    }
    let owners = object.owner_references.unwrap_or_default();
    if owners.is_empty() {
        return Ok(Action::Done);
    }
    let mut states = Vec::new();
    for owner in &owners {
        states.push(state_of(collector, &identity, owner).await?);
    }
    let policy = if states.contains(&State::Solid) {
        let dangling: Vec<&OwnerReference> = owners
            .iter()
            .zip(&states)
            .filter(|(_, state)| **state != State::Solid)
            .map(|(owner, _)| owner)
            .collect();
        if !dangling.is_empty() {
            drop_references(&api, &identity, &dangling).await?;
        }
        return Ok(Action::Done);
    } else if states.contains(&State::Waiting) && !dependents(collector, &identity).is_empty() {
        // An owner that waits for its dependents may be a dependent of this object: a circle, in
        // which nobody may wait for anybody.
        if dependents(collector, &identity).iter().any(|it| is_waiting(collector, it))
            && unblock(&api, &identity, &owners).await?
        {
            collector.queue.add(identity);
            return Ok(Action::Done);
        }
        PropagationPolicy::Foreground
    } else if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    };
    info!(object = %identity, "deleting, its owners are gone");
    let params = DeleteParams {
        propagation_policy: Some(policy),
        preconditions: Some(Preconditions {
            uid: Some(identity.uid.to_string()),
            // Whoever adopted it meanwhile changed it.
            resource_version: object.resource_version,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&identity.key.name, &params).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(Action::Done),
    }
}

/// Whether an object is on its way out and waits for its own dependents.
fn is_waiting(collector: &Collector, identity: &Identity) -> bool {
    let Some(object) = collector.object(&identity.resource, &identity.key) else { return false };
    let finalizers = |object: DynamicObject| object.metadata.finalizers.unwrap_or_default();
    object.deleting
        && object.parse().is_ok_and(|it| finalizers(it).iter().any(|name| name == FOREGROUND))
}

/// Lets the owners of an object go before it. Returns whether they had to wait until now.
async fn unblock(
    api: &client::Api<DynamicObject>,
    identity: &Identity,
    owners: &[OwnerReference],
) -> Result<bool, Error> {
    if owners.iter().all(|owner| owner.block_owner_deletion != Some(true)) {
        return Ok(false);
    }
    let mut owners = owners.to_vec();
    owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
    let patch = json!({"metadata": {"uid": identity.uid, "ownerReferences": owners}});
    patch_gently(api, identity, &patch).await?;
    Ok(true)
}

fn dependents(collector: &Collector, owner: &Identity) -> Vec<Identity> {
    let graph = collector.graph.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    graph.dependents_of(&owner.uid)
}

/// The state of an owner, by the live object: what the graph has may be old.
async fn state_of(
    collector: &Collector,
    dependent: &Identity,
    owner: &OwnerReference,
) -> Result<State, ReconcileError> {
    let Some(kind) = collector.kind_named(&owner.api_version, &owner.kind) else {
        // An unknown kind may be known again tomorrow: an owner is not absent for that.
        debug!(owner = owner.name, kind = owner.kind, "owner of an unknown kind");
        return Ok(State::Solid);
    };
    // A cluster-scoped object cannot have an owner in a namespace.
    if kind.namespaced && dependent.key.namespace.is_empty() {
        return Ok(State::Solid);
    }
    let namespace = if kind.namespaced { &*dependent.key.namespace } else { "" };
    if let Some(known) = collector.object(&kind.resource, &Key::new(namespace, &*owner.name))
        && *known.uid == *owner.uid
        && !known.deleting
    {
        return Ok(State::Solid);
    }
    let api = kind.api(&collector.context.client, namespace);
    match api.get_metadata(&owner.name).await {
        Ok(live) if live.metadata.uid.as_deref() != Some(&owner.uid) => Ok(State::Absent),
        Ok(live) => {
            let finalizers = live.metadata.finalizers.unwrap_or_default();
            let waiting = live.metadata.deletion_timestamp.is_some()
                && finalizers.iter().any(|finalizer| finalizer == FOREGROUND);
            Ok(if waiting { State::Waiting } else { State::Solid })
        }
        Err(error) if is_not_found(&error) => Ok(State::Absent),
        Err(error) => Err(error.into()),
    }
}

/// How many dependents say that their owner has to wait for them.
fn blocking_dependents(collector: &Collector, owner: &Identity) -> Result<usize, ReconcileError> {
    let mut count = 0;
    for dependent in dependents(collector, owner) {
        let Some(object) = collector.object(&dependent.resource, &dependent.key) else { continue };
        let object: DynamicObject = object.parse()?;
        let references = object.metadata.owner_references.unwrap_or_default();
        let blocks =
            references.iter().any(|r| *r.uid == *owner.uid && r.block_owner_deletion == Some(true));
        count += usize::from(blocks);
    }
    Ok(count)
}

/// Takes the references to `owner` off all its dependents.
async fn orphan_dependents(collector: &Collector, owner: &Identity) -> Result<(), ReconcileError> {
    for dependent in dependents(collector, owner) {
        let Some(kind) = collector.kind_of(&dependent.resource) else { continue };
        let api = kind.api(&collector.context.client, &dependent.key.namespace);
        drop_uids(&api, &dependent, &[&owner.uid]).await?;
    }
    Ok(())
}

async fn drop_references(
    api: &client::Api<DynamicObject>,
    dependent: &Identity,
    owners: &[&OwnerReference],
) -> Result<(), Error> {
    let uids: Vec<&str> = owners.iter().map(|owner| owner.uid.as_str()).collect();
    drop_uids(api, dependent, &uids).await
}

/// Takes the references to the owners with these UIDs off. A merge patch of the whole list, bound
/// to the revision that was read: custom resources know no strategic merge.
async fn drop_uids(
    api: &client::Api<DynamicObject>,
    dependent: &Identity,
    uids: &[&str],
) -> Result<(), Error> {
    let live = match api.get_metadata(&dependent.key.name).await {
        Ok(live) => live.metadata,
        Err(error) if is_not_found(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut references = live.owner_references.unwrap_or_default();
    let before = references.len();
    references.retain(|reference| !uids.contains(&reference.uid.as_str()));
    if references.len() == before || live.uid.as_deref() != Some(&*dependent.uid) {
        return Ok(());
    }
    let patch = json!({"metadata": {
        "uid": live.uid, "resourceVersion": live.resource_version, "ownerReferences": references}});
    patch_gently(api, dependent, &patch).await
}

async fn remove_finalizer(
    api: &client::Api<DynamicObject>,
    identity: &Identity,
    object: &ObjectMeta,
    finalizer: &str,
) -> Result<(), Error> {
    let left: Vec<&String> =
        object.finalizers.iter().flatten().filter(|known| *known != finalizer).collect();
    let patch = json!({"metadata": {
        "uid": object.uid, "resourceVersion": object.resource_version, "finalizers": left}});
    patch_gently(api, identity, &patch).await
}

/// Patches; an object that is gone needs it no more. One that has changed is a conflict, after
/// which it is looked at again.
async fn patch_gently(
    api: &client::Api<DynamicObject>,
    identity: &Identity,
    patch: &serde_json::Value,
) -> Result<(), Error> {
    let name = &identity.key.name;
    match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}
