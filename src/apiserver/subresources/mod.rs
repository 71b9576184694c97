//! Subresources, and resources that answer without storing anything.

use apimachinery::Status;
use http::request::Parts;

use crate::{
    http::{body::Response, decode::Payload},
    registry::{Call, answer::Answer, get::get, patch::patch, update::update},
};

/// Answers a request on a subresource that exists and has the verb.
///
/// # Errors
/// The Status that refuses it.
pub async fn dispatch(
    call: &Call<'_>,
    _parts: &mut Parts,
    body: Payload,
) -> Result<Response, Status> {
    match (&*call.info.subresource, &*call.info.verb) {
        ("status" | "ephemeralcontainers" | "resize" | "approval" | "finalize", verb) => match verb
        {
            "get" => get(call)?.respond(call),
            "update" => update(call, body).await?.respond(call),
            _ => patch(call, body).await?.respond(call),
        },
        _ => Err(Status::method_not_allowed(call.group_resource(), &call.info.verb)),
    }
}

/// Answers a request on a resource that stores nothing.
///
/// # Errors
/// The Status that refuses it.
pub async fn virtual_resource(call: &Call<'_>, _body: Payload) -> Result<Answer, Status> {
    Err(Status::method_not_allowed(call.group_resource(), &call.info.verb))
}
