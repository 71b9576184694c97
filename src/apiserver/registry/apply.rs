//! Server-side apply: the client says what it wants of an object; managed fields say what others do.

use apimachinery::{Status, schema::DecodeError};
use serde_json::Value;

use crate::{
    http::accept::Media,
    registry::{
        Call,
        answer::Answer,
        managed, metadata,
        modify::{self, Change, Kind},
        normalize,
        options::{FieldValidation, WriteOptions},
        patch::check_identity,
        update::check_name,
    },
};

/// Answers a PATCH of type `application/apply-patch+yaml`.
///
/// # Errors
/// The Status that refuses it; 409 with the fields that others manage.
pub async fn apply(call: &Call<'_>, body: &[u8], options: &WriteOptions) -> Result<Answer, Status> {
    let decoded = normalize::free(Media::Yaml, body)
        .map_err(|why| Status::bad_request(format!("error encoding patch: yaml: {why}")))?;
    match options.field_validation {
        FieldValidation::Ignore => {}
        validation => call.report(decoded.strict, validation, |why| {
            Status::bad_request(format!("error strict decoding patch: {why}"))
        })?,
    }
    let config = decoded.value;
    let change = Change {
        kind: Kind::Patch,
        options,
        create_if_missing: true,
        uid: Some(metadata::text(&config, "uid").to_owned()).filter(|uid| !uid.is_empty()),
        manager: None,
    };
    modify::modify(call, &call.info.name, &change, |old| merge(call, old, &config, options)).await
}

/// The present object with the configuration applied.
fn merge(
    call: &Call<'_>,
    old: Option<&Value>,
    config: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let version = call.endpoint.version();
    let force = options.force.unwrap_or(false);
    let mut object = managed::apply(call, old, config, &options.field_manager, force)?;
    normalize::check_kind(&mut object, &version.gvk)?;
    version.schema.conform(&mut object).map_err(|error| match error {
        DecodeError::Malformed(why) | DecodeError::Type(why) => Status::bad_request(why),
    })?;
    if old.is_none() {
        check_name(&object, &call.info.name)?;
    }
    check_identity(call, &mut object)?;
    Ok(object)
}
