//! Resources that are questions: an object comes in, goes out with a status, and is forgotten.

use apimachinery::{GroupResource, Status};
use serde_json::json;

use super::binding;
use crate::{
    authentication::review::self_subject,
    http::decode::Payload,
    registry::{
        Call,
        answer::{Answer, Content},
        managed, metadata,
        options::WriteOptions,
    },
};

/// Answers a request on a resource that stores nothing.
///
/// # Errors
/// The Status that refuses it.
pub(super) async fn review(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    match call.resource().plural() {
        "bindings" => return binding::bind(call, body).await,
        "componentstatuses" => return component_statuses(call),
        _ => {}
    }
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let version = call.endpoint.version();
    let mut question =
        call.read_object(body, options.field_validation, &version.gvk, &version.schema).await?;
    metadata::match_namespace(&mut question, call.namespace())?;
    managed::update(call, None, &mut question, &call.manager(&options)).await?;
    let authenticator = &call.server.authenticator;
    let answer = match call.resource().plural() {
        "tokenreviews" => authenticator.review_token(question)?,
        "selfsubjectreviews" => self_subject(call.user, question),
        _ => call.server.authorizer.review(call.user, call.info, question)?,
    };
    Ok(Answer::created(Content::Other(answer)))
}

/// The one component whose state this process can vouch for.
fn component_statuses(call: &Call<'_>) -> Result<Answer, Status> {
    let entry = json!({
        "kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": { "name": "etcd-0" },
        "conditions": [{ "type": "Healthy", "status": "True", "message": "ok" }],
    });
    if call.info.verb == "list" {
        let mut item = entry;
        if let Some(fields) = item.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        return Ok(Answer::ok(Content::Other(json!({
            "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [item],
        }))));
    }
    match call.info.name.as_str() {
        "etcd-0" => Ok(Answer::ok(Content::Other(entry))),
        // Upstream says it in the singular, here alone.
        name => Err(Status::not_found(&GroupResource::new("", "componentstatus"), name)),
    }
}
