//! Versions: objects are stored in one and served in several.
//!
//! Built-in conversions are a file each; custom resources differ in nothing but `apiVersion` unless
//! their definition names a webhook.

mod event;
mod hpa;

use std::sync::Arc;

use apimachinery::{Draft, GroupVersionKind, Object, Status};
use serde_json::Value;

use crate::{
    Shared,
    registry::{modify::stored_value, resource::Endpoint},
};

/// Whether a stored object must be changed before it can be sent through `endpoint`.
pub fn is_due(endpoint: &Endpoint, object: &Object) -> bool {
    if !endpoint.is_stored_version() {
        return true;
    }
    // A custom object that is older than its definition may lack defaults that came later, or be
    // stored in a version that was the stored one then.
    endpoint
        .resource
        .definition
        .as_ref()
        .is_some_and(|definition| object.revision <= definition.revision && definition.is_rewritten)
}

/// From the version of `endpoint` to the stored one.
///
/// # Errors
/// The Status of a conversion webhook that failed.
pub async fn to_storage(
    server: &Shared,
    endpoint: &Endpoint,
    object: Value,
) -> Result<Value, Status> {
    let storage = &endpoint.resource.storage;
    if api_version(&object) == storage.api_version() {
        return Ok(object);
    }
    let mut all = to_version(server, endpoint, storage, vec![object]).await?;
    all.pop().ok_or_else(|| Status::internal("conversion lost an object"))
}

/// From the stored version to that of `endpoint`.
///
/// # Errors
/// The Status of a conversion webhook that failed.
pub async fn from_storage(
    server: &Shared,
    endpoint: &Endpoint,
    object: Value,
) -> Result<Value, Status> {
    let mut all = all_from_storage(server, endpoint, vec![object]).await?;
    all.pop().ok_or_else(|| Status::internal("conversion lost an object"))
}

/// From the stored version to that of `endpoint`, many at once.
///
/// # Errors
/// The Status of a conversion webhook that failed.
pub async fn all_from_storage(
    server: &Shared,
    endpoint: &Endpoint,
    objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let mut objects = to_version(server, endpoint, &endpoint.version().gvk, objects).await?;
    if endpoint.resource.definition.as_ref().is_some_and(|definition| definition.is_rewritten) {
        let schema = &endpoint.version().schema;
        objects.iter_mut().for_each(|object| schema.default_values(object));
    }
    Ok(objects)
}

/// Stored objects as objects of the version of `endpoint`.
///
/// # Errors
/// The Status of a conversion webhook that failed.
pub async fn present(
    server: &Shared,
    endpoint: &Endpoint,
    mut objects: Vec<Arc<Object>>,
) -> Result<Vec<Arc<Object>>, Status> {
    let due: Vec<usize> = (0..objects.len()).filter(|at| is_due(endpoint, &objects[*at])).collect();
    if due.is_empty() {
        return Ok(objects);
    }
    let values = due.iter().map(|at| stored_value(&objects[*at])).collect::<Result<Vec<_>, _>>()?;
    let values = all_from_storage(server, endpoint, values).await?;
    for (at, value) in due.into_iter().zip(values) {
        let draft = Draft::new(&value, &[] as &[&str]).map_err(Status::internal)?;
        objects[at] = draft.seal(objects[at].revision);
    }
    Ok(objects)
}

/// One stored object as one of the version of `endpoint`.
///
/// # Errors
/// The Status of a conversion webhook that failed.
pub async fn present_one(
    server: &Shared,
    endpoint: &Endpoint,
    object: Arc<Object>,
) -> Result<Arc<Object>, Status> {
    if !is_due(endpoint, &object) {
        return Ok(object);
    }
    let mut all = present(server, endpoint, vec![object]).await?;
    all.pop().ok_or_else(|| Status::internal("conversion lost an object"))
}

async fn to_version(
    server: &Shared,
    endpoint: &Endpoint,
    wanted: &GroupVersionKind,
    mut objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let webhook = endpoint.resource.definition.as_ref().and_then(|d| d.conversion.as_ref());
    if let Some(webhook) = webhook {
        return webhook.convert(server, &wanted.api_version(), objects).await;
    }
    for object in &mut objects {
        rewrite(wanted, object);
    }
    Ok(objects)
}

/// Between two versions without asking a webhook: for what only compares field names.
pub fn between(to: &Endpoint, object: &mut Value) {
    rewrite(&to.version().gvk, object);
}

fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// The conversions that are built in.
fn rewrite(wanted: &GroupVersionKind, object: &mut Value) {
    let to = wanted.api_version();
    if api_version(object) == to {
        return;
    }
    match (&*wanted.kind, api_version(object), &*to) {
        ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2") => hpa::v1_to_v2(object),
        ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1") => hpa::v2_to_v1(object),
        ("Event", "events.k8s.io/v1", "v1") => event::to_core(object),
        ("Event", "v1", "events.k8s.io/v1") => event::from_core(object),
        _ => {}
    }
    set_version(object, wanted);
}

fn set_version(object: &mut Value, gvk: &apimachinery::GroupVersionKind) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), gvk.api_version().into());
        fields.insert("kind".into(), (*gvk.kind).into());
    }
}

/// Moves a field to another name.
fn rename(object: &mut Value, from: &str, to: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}
