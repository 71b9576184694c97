//! `/openapi/v2` and `/openapi/v3`: what clients may know of the schemas.

use apimachinery::Status;
use http::HeaderMap;

use crate::{
    Shared,
    http::{body::Response, query::Query, router::not_found},
};

/// Answers a request below `/openapi`.
///
/// # Errors
/// 406 for a form that it cannot be had in.
pub fn answer(
    _server: &Shared,
    _path: &str,
    _query: &Query<'_>,
    _headers: &HeaderMap,
) -> Result<Response, Status> {
    Ok(not_found())
}
