//! Subresources, and resources that answer without storing anything. One file each.

mod binding;
mod eviction;
mod review;
pub mod scale;
mod token;

use apimachinery::Status;
use http::request::Parts;

use crate::{
    http::{body::Response, decode::Payload},
    proxy,
    registry::{Call, answer::Answer, get::get, patch::patch, update::update},
};

/// Answers a request on a subresource that exists and has the verb.
///
/// # Errors
/// The Status that refuses it.
pub async fn dispatch(
    call: &Call<'_>,
    parts: &mut Parts,
    body: Payload,
) -> Result<Response, Status> {
    let answer = match (&*call.info.subresource, &*call.info.verb) {
        ("status" | "ephemeralcontainers" | "resize" | "approval" | "finalize", verb) => match verb
        {
            "get" => get(call)?,
            "update" => update(call, body).await?,
            _ => patch(call, body).await?,
        },
        ("scale", _) => scale::scale(call, body).await?,
        ("binding", _) => binding::bind(call, body).await?,
        ("eviction", _) => eviction::evict(call, body).await?,
        ("token", _) => token::request(call, body).await?,
        ("log" | "exec" | "attach" | "portforward" | "proxy", _) => {
            return proxy::answer(call, parts, body).await;
        }
        _ => return Err(Status::method_not_allowed(call.group_resource(), &call.info.verb)),
    };
    answer.respond(call).await
}

/// Answers a request on a resource that stores nothing.
///
/// # Errors
/// The Status that refuses it.
pub async fn virtual_resource(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    review::review(call, body).await
}
