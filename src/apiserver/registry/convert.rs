//! Versions: objects are stored in one and served in several.
//!
//! Built-in conversions are a file each; custom resources differ in nothing but `apiVersion` unless
//! their definition names a webhook.

mod event;
mod hpa;

use apimachinery::{Object, Status};
use serde_json::Value;

use crate::registry::{normalize, resource::Endpoint};

/// Whether a stored object must be changed before it can be sent through `endpoint`.
pub fn is_due(endpoint: &Endpoint, object: &Object) -> bool {
    if !endpoint.is_stored_version() {
        return true;
    }
    // A custom object that is older than its definition may lack defaults that came later.
    endpoint
        .resource
        .definition
        .as_ref()
        .is_some_and(|definition| definition.has_defaults && object.revision <= definition.revision)
}

/// From the version of `endpoint` to the stored one.
///
/// # Errors
/// The Status of a conversion that failed.
pub fn to_storage(endpoint: &Endpoint, mut object: Value) -> Result<Value, Status> {
    if endpoint.is_stored_version() {
        return Ok(object);
    }
    let gvk = &endpoint.version().gvk;
    match (&*gvk.group, &*gvk.version, &*gvk.kind) {
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => hpa::v1_to_v2(&mut object),
        ("events.k8s.io", "v1", "Event") => event::to_core(&mut object),
        _ => {}
    }
    set_version(&mut object, &endpoint.resource.storage);
    Ok(object)
}

/// From the stored version to that of `endpoint`.
///
/// # Errors
/// The Status of a conversion that failed.
pub fn from_storage(endpoint: &Endpoint, mut object: Value) -> Result<Value, Status> {
    let resource = &endpoint.resource;
    if let Some(definition) = &resource.definition
        && definition.has_defaults
    {
        {
            normalize::default(endpoint, &mut object);
        }
    }
    if endpoint.is_stored_version() {
        return Ok(object);
    }
    let gvk = &endpoint.version().gvk;
    match (&*gvk.group, &*gvk.version, &*gvk.kind) {
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => hpa::v2_to_v1(&mut object),
        ("events.k8s.io", "v1", "Event") => event::from_core(&mut object),
        _ => {}
    }
    set_version(&mut object, gvk);
    Ok(object)
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
