//! What the schema engine does for the registry: reading bodies, defaults, validation, protobuf.

use apimachinery::{
    GroupVersionKind, Status,
    field::{FieldError, Path},
    proto::{self, ProtoError},
    schema::{DecodeError, Decoded, Schema, decode_json},
};
use bytes::{BufMut, BytesMut};
use serde_json::Value;

use crate::{
    crd,
    http::{accept::Media, yaml},
    registry::{
        metadata,
        resource::{Endpoint, Resource},
    },
};

/// Reads free JSON or YAML: patches, applied configurations.
///
/// # Errors
/// What is wrong with the text.
pub fn free(media: Media, body: &[u8]) -> Result<Decoded, String> {
    if media == Media::Yaml && !looks_like_json(body) {
        return yaml::parse(body);
    }
    decode_json(body).map_err(|error| error.to_string())
}

fn looks_like_json(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// What upstream reads the kind of a body into, as its decoder names it.
const TYPE_META: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// Reads an object of `kind`: what its schema does not know is dropped, the rest made canonical.
///
/// # Errors
/// 400 when it cannot be read, or is an object of another kind.
pub fn object(
    media: Media,
    body: &[u8],
    kind: &GroupVersionKind,
    schema: &Schema,
) -> Result<Decoded, Status> {
    let unrecognized = |why: &str| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            kind.kind,
            summary(body)
        ))
    };
    let unreadable =
        |why: &str| unrecognized(&format!("couldn't get version/kind; json parse error: {why}"));
    let mistyped = |why: &str| {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            kind.kind, &*kind.version, kind.kind
        ))
    };
    let judge = |error: DecodeError| match error {
        DecodeError::Malformed(why) => unreadable(&why),
        DecodeError::Type(why) => match why.split_once(" into Go value of type ") {
            // Upstream looks for the kind first, and finds no object to look into.
            Some((what, _)) if !looks_like_json(body) => {
                unreadable(&format!("{what} into Go value of type {TYPE_META}"))
            }
            _ => mistyped(&why),
        },
    };
    let body = if body.trim_ascii() == b"null" { b"{}" } else { body };
    let mut decoded = match media {
        Media::Protobuf => {
            let expected = kind.api_version();
            let envelope =
                proto::Envelope::open(body).map_err(|error| unrecognized(&error.to_string()))?;
            check_names(envelope.api_version, envelope.kind, kind)?;
            let value = proto::decode_object(body, Some((&expected, &kind.kind)))
                .map_err(|error| mistyped(&error.to_string()))?;
            Decoded { value, strict: Vec::new() }
        }
        Media::Yaml if !looks_like_json(body) => {
            let mut decoded = yaml::parse(body).map_err(|why| unreadable(&why))?;
            decoded.strict.extend(schema.conform(&mut decoded.value).map_err(judge)?);
            decoded
        }
        _ => schema.decode_json(body).map_err(judge)?,
    };
    let api_version = decoded.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if api_version.matches('/').count() > 1 {
        return Err(unrecognized(&format!("unexpected GroupVersion string: {api_version}")));
    }
    check_kind(&mut decoded.value, kind)?;
    Ok(decoded)
}

/// The beginning of a body that could not be read, for the message: as it is where it may be JSON,
/// else in hexadecimal.
fn summary(body: &[u8]) -> String {
    const LENGTH: usize = 30;
    let (head, more) = match body.len() {
        0 => return "<empty>".to_owned(),
        length if length > LENGTH => (&body[..LENGTH], " ..."),
        _ => (body, ""),
    };
    let text = match head[0] {
        b'{' => String::from_utf8_lossy(head).into_owned(),
        _ => head.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    text + more
}

fn check_names(api_version: &str, given: &str, kind: &GroupVersionKind) -> Result<(), Status> {
    let expected = kind.api_version();
    let api_version = if api_version.is_empty() { &expected } else { api_version };
    let given = if given.is_empty() { &*kind.kind } else { given };
    if api_version == expected && given == &*kind.kind {
        return Ok(());
    }
    let (group, version) = apimachinery::resource::split_api_version(api_version);
    let why = if apimachinery::schema::builtin(group, version, given).is_none() {
        format!(
            "no kind {given:?} is registered for version {api_version:?} in scheme \
             \"pkg/runtime/scheme.go:111\""
        )
    } else if given == &*kind.kind {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version \
             ({expected})"
        )));
    } else {
        let internal = internal_type(&kind.group, &kind.kind);
        format!("converting ({version}.{given}) to ({internal}): unknown conversion")
    };
    Err(Status::bad_request(format!(
        "{given} in version {version:?} cannot be handled as a {}: {why}",
        kind.kind
    )))
}

/// A kind as Go names its internal type: the package is called after the group's first label.
pub fn internal_type(group: &str, kind: &str) -> String {
    let package = group.split('.').next().filter(|package| !package.is_empty()).unwrap_or("core");
    format!("{package}.{kind}")
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
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    check_names(text("apiVersion"), text("kind"), kind)?;
    fields.insert("apiVersion".into(), kind.api_version().into());
    fields.insert("kind".into(), (*kind.kind).into());
    Ok(())
}

/// Reads DeleteOptions.
///
/// # Errors
/// 400 when they cannot be read.
pub fn delete_options(media: Media, body: &[u8]) -> Result<Value, Status> {
    if media == Media::Protobuf {
        return proto::decode_object(body, Some(("v1", "DeleteOptions")))
            .map_err(|error| Status::bad_request(error.to_string()));
    }
    free(media, body).map(|decoded| decoded.value).map_err(|why| {
        Status::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
    })
}

/// Fills in the defaults: those of the schema, then those of the kind. `object` is of the stored
/// version.
pub fn default(endpoint: &Endpoint, object: &mut Value) {
    let resource = &endpoint.resource;
    if let Some(schema) = storage_schema(resource) {
        schema.default_values(object);
    }
    resource.hooks.default(object);
}

/// Makes an object what it is once it was stored.
pub fn store(resource: &Resource, object: &mut Value) {
    if !resource.is_custom()
        && let Some(schema) = storage_schema(resource)
    {
        schema.store(object);
    }
}

/// The schema of the stored version.
pub fn storage_schema(resource: &Resource) -> Option<&Schema> {
    let version = resource.versions.iter().find(|version| version.gvk == resource.storage);
    version.map(|version| &version.schema)
}

/// The status of a new object of a built-in kind: as Go writes it without any value.
pub fn zero_status(resource: &Resource) -> Option<Value> {
    if resource.is_custom() {
        return None;
    }
    let mut empty = Value::Object(serde_json::Map::new());
    storage_schema(resource)?.conform(&mut empty).ok()?;
    empty.get_mut("status").map(Value::take)
}

/// Validates a custom object against its schema; `old` is what an update replaces, `errors` what was
/// found already.
pub fn validate(
    endpoint: &Endpoint,
    object: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    if !endpoint.resource.is_custom() {
        return;
    }
    let schema = &endpoint.version().schema;
    errors.extend(schema.validate(object, old));
    let (wrong, embedded) = schema.validate_embedded(object);
    errors.extend(wrong);
    for (path, object) in embedded {
        errors.extend(metadata::validate_embedded(object, &path));
    }
    errors.extend(schema.validate_lists(object));
    let definition = endpoint.resource.definition.as_ref();
    let facts = definition.and_then(|it| it.version(&endpoint.version().gvk.version));
    if let Some(rules) = facts.and_then(|facts| facts.rules.as_ref()) {
        // Rules are for objects that have the form of the schema.
        let formless = |error: &FieldError| {
            use apimachinery::field::Cause::{
                NotSupported, Required, TooLong, TooMany, TypeInvalid,
            };
            matches!(error.cause, NotSupported | Required | TooLong | TooMany | TypeInvalid)
        };
        if errors.iter().any(formless) {
            let detail = "some validation rules were not checked because the object was invalid; \
                          correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&Path::empty(), Value::Null, detail));
        } else {
            errors.extend(crd::rules::validate(rules, object, old));
        }
    }
}

/// The protobuf encoding of an object, envelope included.
///
/// # Errors
/// 406 for kinds that have none.
pub fn to_protobuf(value: &Value) -> Result<Vec<u8>, Status> {
    proto::encode_object(value).map_err(not_encoded)
}

/// The same of an object of `kind` that is still text.
///
/// # Errors
/// 406 for kinds that have none.
pub fn text_to_protobuf(kind: &GroupVersionKind, text: &[u8]) -> Result<Vec<u8>, Status> {
    proto::encode_json(&kind.api_version(), &kind.kind, text).map_err(not_encoded)
}

fn not_encoded(error: ProtoError) -> Status {
    match error {
        ProtoError::UnknownKind { .. } => {
            Status::not_acceptable(&crate::http::accept::SUPPORTED_CUSTOM)
        }
        other => Status::internal(other),
    }
}

/// A watch event around an encoded object.
pub fn protobuf_event(kind: &str, object: &[u8], out: &mut BytesMut) {
    out.put_slice(&proto::watch_frame(kind, object));
}
