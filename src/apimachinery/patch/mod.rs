//! The three patch formats that change a stored object: JSON patch, JSON merge patch, strategic
//! merge patch. Each follows the library that upstream uses where that departs from the RFC.

pub mod json;
pub mod merge;
pub mod strategic;
mod strategic_list;

use serde_json::Value;

use crate::Status;
use crate::quote::json_type;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// It asks for more than the server is willing to do.
    #[error("Request entity too large: {0}")]
    TooLarge(String),
    /// It does not fit the object. Upstream keeps the reason from the client; it is for logs.
    #[error("{0}")]
    Unprocessable(String),
    /// Everything that upstream reports as a failure of its own, mostly patches that do not fit
    /// the schema.
    #[error("{0}")]
    Internal(String),
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Status {
        match error {
            PatchError::BadRequest(why) => Status::bad_request(why),
            PatchError::TooLarge(_) => {
                Status::failure(413, "RequestEntityTooLarge", error.to_string())
            }
            PatchError::Unprocessable(_) => Status::generic(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request",
            ),
            PatchError::Internal(why) => Status::failure(500, "", why),
        }
    }
}

/// A patch of the wrong JSON type, in the words of Go's decoder.
fn wrong_type(patch: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", json_type(patch))
}
