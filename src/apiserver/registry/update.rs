//! Update: an object replaced by what a PUT sends.

use apimachinery::Status;
use serde_json::Value;

use crate::{
    http::decode::Payload,
    registry::{
        Call,
        answer::Answer,
        metadata,
        modify::{self, Change, Kind},
        options::WriteOptions,
    },
};

/// Answers a PUT of an object or of one of its parts.
///
/// # Errors
/// The Status that refuses it.
pub async fn update(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let options = WriteOptions::parse(call.query, "UpdateOptions")?;
    let version = call.endpoint.version();
    let mut object =
        call.read_object(body, options.field_validation, &version.gvk, &version.schema).await?;
    let name = &call.info.name;
    check_name(&object, name)?;
    metadata::match_namespace(&mut object, call.namespace())?;
    let change = Change {
        kind: Kind::Update,
        options: &options,
        create_if_missing: call.resource().traits.create_on_update,
        uid: Some(metadata::text(&object, "uid").to_owned()).filter(|uid| !uid.is_empty()),
        manager: Some(call.manager(&options)),
    };
    modify::modify(call, name, &change, |_| Ok(object.clone())).await
}

/// What a PUT sends has to say what it is.
///
/// # Errors
/// 400 when it has no name, or another than that of the path.
pub fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    match metadata::name(object) {
        given if given == name => Ok(()),
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        given => Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}
