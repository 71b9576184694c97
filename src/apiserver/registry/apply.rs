//! Server-side apply: the client says what it wants of an object; managed fields say what others do.

use apimachinery::Status;

use crate::registry::{Call, answer::Answer, options::WriteOptions};

/// Answers a PATCH of type `application/apply-patch+yaml`.
///
/// # Errors
/// The Status that refuses it; 409 with the fields that others manage.
pub async fn apply(
    call: &Call<'_>,
    _body: &[u8],
    _options: &WriteOptions,
) -> Result<Answer, Status> {
    Err(Status::method_not_allowed(call.group_resource(), "apply"))
}
