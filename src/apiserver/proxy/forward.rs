//! Sends a request on and its answer back; after an upgrade bytes pass in both directions.

use apimachinery::Status;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::{
    Shared,
    http::{
        body::{Body, Response},
        client::{self, Target, unreachable},
        decode::Payload,
    },
};

/// Headers that belong to one connection and not to the message.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether the request wants to leave HTTP.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter();
    connection
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("upgrade"))
        && headers.contains_key(header::UPGRADE)
}

/// Sends the request of `parts` and `headers` to `target` and answers what that answers. `more` are
/// headers that are set beyond those of the client.
///
/// # Errors
/// 503 when the target cannot be reached.
pub(crate) async fn send(
    server: &Shared,
    headers: &HeaderMap,
    parts: &mut Parts,
    body: Payload,
    target: Target,
    more: HeaderMap,
) -> Result<Response, Status> {
    let request = request(headers, parts, body, &target, more)?;
    let mut sender = client::connect(&target).await?;
    let mut response =
        sender.send_request(request).await.map_err(|error| unreachable(&target, &error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = response.into_parts();
        for name in &HOP_BY_HOP {
            head.headers.remove(name);
        }
        return Ok(Response::from_parts(head, Body::Proxied(body)));
    }
    let ours = parts
        .extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| Status::bad_request("this connection cannot be upgraded"))?;
    let theirs = hyper::upgrade::on(&mut response);
    let stop = server.stop.clone();
    tokio::spawn(async move {
        let (ours, theirs) = match tokio::try_join!(ours, theirs) {
            Ok(both) => both,
            Err(error) => return debug!(%error, "upgrade failed"),
        };
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        tokio::select! {
            result = tokio::io::copy_bidirectional(&mut ours, &mut theirs) => {
                if let Err(error) = result {
                    debug!(%error, "stream ended");
                }
            }
            () = stop.cancelled() => {}
        }
    });
    let (head, _) = response.into_parts();
    Ok(Response::from_parts(head, Body::empty()))
}

fn request(
    given: &HeaderMap,
    parts: &Parts,
    body: Payload,
    target: &Target,
    more: HeaderMap,
) -> Result<http::Request<Payload>, Status> {
    let path = if target.path.is_empty() { "/" } else { &target.path };
    let upgrade = is_upgrade(given);
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        // Credentials, impersonation and the names of front proxies were for us.
        let ours = *name == header::AUTHORIZATION
            || *name == header::HOST
            || name.as_str().starts_with("impersonate-")
            || name.as_str().starts_with("x-remote-");
        let hop = HOP_BY_HOP.contains(name)
            && !(upgrade && (*name == header::CONNECTION || *name == header::UPGRADE));
        if !ours && !hop {
            headers.append(name, value.clone());
        }
    }
    headers.extend(more);
    let bad = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
    let host = HeaderValue::from_str(&target.authority()).map_err(|error| bad(&error))?;
    headers.insert(header::HOST, host);
    let mut request = http::Request::builder()
        .method(parts.method.clone())
        .uri(path)
        .body(body)
        .map_err(|error| bad(&error))?;
    *request.headers_mut() = headers;
    Ok(request)
}
