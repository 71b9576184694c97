//! Connections to ports of pods.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;

use super::server::{Answer, Query, Server, text};

pub(super) async fn serve(_: &Server, _: Pod, _: &Query, _: Request<Incoming>) -> Answer {
    text(StatusCode::NOT_IMPLEMENTED, "port forwarding is not served")
}
