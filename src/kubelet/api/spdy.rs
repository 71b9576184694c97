//! SPDY/3.1, which older clients and port-forwards speak.

use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Incoming;

use super::{
    exec::Command,
    server::{Answer, Server, text},
};

/// Whether a request wants SPDY.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("SPDY/3.1"))
}

pub(super) fn exec(_: &Server, _: Command, _: Request<Incoming>) -> Answer {
    text(StatusCode::NOT_IMPLEMENTED, "SPDY is not served for commands")
}
