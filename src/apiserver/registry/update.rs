//! Update: an object replaced by what a PUT sends.

use apimachinery::Status;

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
    if metadata::name(&object) != name {
        let given = metadata::name(&object);
        return Err(Status::bad_request(if given.is_empty() {
            format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        } else {
            format!("the name of the object ({given}) does not match the name on the URL ({name})")
        }));
    }
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
