//! Get: one object.

use apimachinery::Status;

use crate::registry::{
    Call,
    answer::{Answer, Content},
    options::invalid_revision,
};

/// Answers a GET of an object (or its status, which is the same object).
///
/// # Errors
/// 404 when it is not there.
pub fn get(call: &Call<'_>) -> Result<Answer, Status> {
    if let Some(text) = call.query.text("resourceVersion") {
        let asked: u64 =
            text.parse().map_err(|_| Status::failure(500, "", invalid_revision(text)))?;
        let current = call.server.store.revision();
        if asked > current {
            return Err(future_revision(asked, current));
        }
    }
    let name = &call.info.name;
    let object = call
        .collection()?
        .get(&call.key(name))
        .ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    Ok(Answer::ok(Content::Object(object)))
}

/// 504 of a resourceVersion that this server has not reached. Clients try again.
pub fn future_revision(asked: u64, current: u64) -> Status {
    let mut status =
        Status::timeout(format!("Too large resource version: {asked}, current: {current}"));
    status.details.retry_after_seconds = Some(1);
    status.details.causes = vec![apimachinery::status::StatusCause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        ..Default::default()
    }];
    status
}
