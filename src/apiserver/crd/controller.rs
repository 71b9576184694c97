//! Follows the CustomResourceDefinitions: accepts names, establishes what they define, and empties
//! what they no longer define.

use std::sync::Arc;

use apimachinery::{Key, Object, Status};
use serde_json::Value;
use storage::{Collection, Durability, OpenError, Write, WriteError};
use tracing::{error, info, warn};

use super::{conditions, names, resource};
use crate::{
    Shared,
    registry::{delete::INSTANCE_CLEANUP, direct, metadata, resource::Resource},
};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// Brings the resources up to date with the definitions that are stored.
///
/// # Errors
/// When a collection cannot be loaded or a status not be written.
pub async fn reconcile(server: &Shared) -> Result<(), Status> {
    let Some(definitions) = server.collection(GROUP, PLURAL) else { return Ok(()) };
    let all: Vec<Arc<Object>> = definitions.snapshot().iter().cloned().collect();
    for object in &all {
        if let Err(error) = one(server, object, &definitions).await {
            warn!(definition = %object.key, %error, "definition not reconciled");
        }
    }
    // Served before it is established: whoever sees the condition finds the resource.
    publish(server, &definitions).await.map_err(Status::internal)?;
    for object in definitions.snapshot().iter() {
        if let Err(error) = establish(server, object).await {
            warn!(definition = %object.key, %error, "definition not established");
        }
    }
    Ok(())
}

/// Follows the definitions until the server stops.
pub async fn run(server: Arc<Shared>) {
    let Some(definitions) = server.collection(GROUP, PLURAL) else { return };
    loop {
        let mut watch = match definitions.watch(definitions.snapshot().revision()) {
            Ok(watch) => watch,
            Err(error) => {
                error!(%error, "cannot watch definitions");
                return;
            }
        };
        if let Err(error) = reconcile(&server).await {
            error!(%error, "definitions not reconciled");
        }
        loop {
            let next = tokio::select! {
                () = server.stop.cancelled() => return,
                next = watch.next() => next,
            };
            if next.is_err() {
                break;
            }
            // Changes come in bursts; all that are there are reconciled at once.
            while matches!(watch.try_next(), Ok(Some(_))) {}
            if let Err(error) = reconcile(&server).await {
                error!(%error, "definitions not reconciled");
            }
        }
    }
}

async fn one(server: &Shared, object: &Object, definitions: &Collection) -> Result<(), Status> {
    let value = object.value().map_err(Status::internal)?;
    if object.deleting {
        return finalize(server, object, &value).await;
    }
    if conditions::is_true(&value, "NamesAccepted")
        && value["spec"]["names"] == value["status"]["acceptedNames"]
    {
        return Ok(());
    }
    let table = server.resources.table_owned();
    let resource = table.resource(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    let others: Vec<Arc<Object>> = definitions.snapshot().iter().cloned().collect();
    direct::edit(server, resource, &object.key, false, |_, definition| {
        let before = definition.clone();
        if names::accept(definition, &others) && !conditions::is_true(definition, "Established") {
            let message = "the initial names have been accepted";
            conditions::set(definition, "Established", "False", "Installing", message);
        }
        Ok(*definition != before)
    })
    .await
    .map(drop)
}

async fn establish(server: &Shared, object: &Object) -> Result<(), Status> {
    let value = object.value().map_err(Status::internal)?;
    let due = |definition: &Value| {
        conditions::is_true(definition, "NamesAccepted")
            && !conditions::is_true(definition, "Established")
    };
    if object.deleting || !due(&value) {
        return Ok(());
    }
    let table = server.resources.table_owned();
    let resource = table.resource(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    direct::edit(server, resource, &object.key, false, |_, definition| {
        if due(definition) {
            let message = "the initial names have been accepted";
            conditions::set(definition, "Established", "True", "InitialNamesAccepted", message);
            return Ok(true);
        }
        Ok(false)
    })
    .await
    .map(drop)
}

async fn open(server: &Shared, definition: &Value) -> Result<Collection, OpenError> {
    let stored = resource::group_resource(definition);
    server.store.collection(&stored, &[], Durability::Durable).await
}

/// Makes the established definitions the custom resources of the server.
async fn publish(server: &Shared, definitions: &Collection) -> Result<(), OpenError> {
    let table = server.resources.table_owned();
    let mut all: Vec<Arc<Resource>> =
        table.all.iter().filter(|resource| !resource.is_custom()).cloned().collect();
    let mut changed = false;
    let mut kept = 0;
    for object in definitions.snapshot().iter() {
        let Ok(definition) = object.value() else { continue };
        let served = ["Established", "NamesAccepted"];
        if !served.iter().any(|condition| conditions::is_true(&definition, condition)) {
            continue;
        }
        // A schema that has not changed is not read again.
        let known = table.all.iter().find(|resource| {
            resource.definition.as_ref().is_some_and(|known| {
                known.uid == (*object.uid).into() && known.revision == object.revision
            })
        });
        if let Some(known) = known {
            all.push(known.clone());
            kept += 1;
            continue;
        }
        changed = true;
        let collection = open(server, &definition).await?;
        if let Some(resource) = resource::build(object, &definition, collection) {
            info!(resource = %resource.group_resource, "custom resource served");
            all.push(Arc::new(resource));
        }
    }
    let before = table.all.iter().filter(|resource| resource.is_custom()).count();
    if changed || kept != before {
        server.resources.replace(all);
    }
    Ok(())
}

/// Deletes the objects of a definition that is to go, then lets it go.
async fn finalize(server: &Shared, object: &Object, value: &Value) -> Result<(), Status> {
    if !metadata::finalizers(value).any(|finalizer| finalizer == INSTANCE_CLEANUP) {
        return Ok(());
    }
    let stored = resource::group_resource(value);
    let table = server.resources.table_owned();
    let owned = table.resource(&stored.group, &stored.resource).filter(|resource| {
        resource.definition.as_ref().is_some_and(|known| *known.uid == *object.uid)
    });
    if let Some(resource) = owned
        && !delete_instances(server, resource).await?
    {
        // Objects with finalizers remain; their going is an event of the collection.
        follow_instances(server, resource.clone());
        return Ok(());
    }
    let definitions = table.resource(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    release(server, definitions, &object.key).await
}

/// Asks every object to go. Returns whether all are gone.
async fn delete_instances(server: &Shared, resource: &Resource) -> Result<bool, Status> {
    let Some(collection) = &resource.collection else { return Ok(true) };
    for object in collection.snapshot().iter() {
        let version = &resource.versions[0].gvk;
        let path = apimachinery::GroupVersionResource::new(
            &version.group,
            &version.version,
            resource.plural(),
        )
        .path(Some(&*object.key.namespace).filter(|namespace| !namespace.is_empty()));
        let path = format!("{path}/{}", object.key.name);
        let user = crate::request::UserInfo::component("system:apiserver", &["system:masters"]);
        let deleted = server
            .ask(&user, http::Method::DELETE, &path, "application/json", bytes::Bytes::new())
            .await;
        match deleted {
            Err(status) if !status.is("NotFound") => return Err(status),
            _ => {}
        }
    }
    Ok(collection.snapshot().is_empty())
}

/// Tries again when an object of a terminating definition is gone.
fn follow_instances(server: &Shared, resource: Arc<Resource>) {
    let server = server.arc();
    tokio::spawn(async move {
        let Some(collection) = &resource.collection else { return };
        let snapshot = collection.snapshot();
        let Ok(mut watch) = collection.watch(snapshot.revision()) else { return };
        while !collection.snapshot().is_empty() {
            tokio::select! {
                () = server.stop.cancelled() => return,
                next = watch.next() => if next.is_err() { return },
            }
        }
        if let Err(error) = reconcile(&server).await {
            warn!(%error, "definition not finalized");
        }
    });
}

/// Takes our finalizer off a definition; with the last one it goes.
async fn release(server: &Shared, resource: &Resource, key: &Key) -> Result<(), Status> {
    let Some(collection) = &resource.collection else { return Ok(()) };
    loop {
        let Some(current) = collection.get(key) else { return Ok(()) };
        let mut value = current.value().map_err(Status::internal)?;
        if let Some(list) =
            metadata::of(&mut value).get_mut("finalizers").and_then(Value::as_array_mut)
        {
            list.retain(|finalizer| finalizer != INSTANCE_CLEANUP);
        }
        let message = "removed all instances";
        conditions::set(&mut value, "Terminating", "False", "InstanceDeletionCompleted", message);
        let last = metadata::finalizers(&value).next().is_none();
        if last {
            metadata::of(&mut value).remove("finalizers");
        }
        let draft =
            apimachinery::Draft::new(&value, collection.fields()).map_err(Status::internal)?;
        let write = match last {
            true => Write::Delete { expected: current.revision, last: draft },
            false => Write::Update { draft, expected: current.revision },
        };
        match server.store.commit(collection, write).await {
            Ok(_) | Err(WriteError::NotFound) => return Ok(()),
            Err(WriteError::Conflict(_)) => {}
            Err(error) => return Err(Status::internal(error)),
        }
    }
}
