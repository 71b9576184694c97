//! The proxy of pods, Services and nodes: an empty path is redirected, and redirects of the target
//! are turned into paths below the proxy.

use apimachinery::Status;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

use super::forward;
use crate::{
    http::{
        body::{Body, Response},
        client::Target,
        decode::Payload,
    },
    registry::Call,
};

/// Forwards a request to `target`.
pub(super) async fn send(
    call: &Call<'_>,
    parts: &mut Parts,
    body: Payload,
    mut target: Target,
) -> Result<Response, Status> {
    let prefix = prefix(parts, &target.path);
    if target.path.is_empty()
        && matches!(parts.method, Method::GET | Method::HEAD)
        && !forward::is_upgrade(call.headers)
    {
        // Relative links of the page behind need the slash.
        return redirect(&format!("{prefix}/{}", query(parts)));
    }
    target.path.push_str(&query(parts));
    let (host, port) = (target.host.clone(), target.port);
    let nothing = HeaderMap::new();
    let mut response =
        forward::send(call.server, call.headers, parts, body, target, nothing).await?;
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    if let Some(inside) = location.and_then(|location| inside(location, &host, port))
        && let Ok(value) = HeaderValue::from_str(&format!("{prefix}{inside}"))
    {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

fn query(parts: &Parts) -> String {
    parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default()
}

/// The path up to and with `/proxy`.
fn prefix(parts: &Parts, behind: &str) -> String {
    let path = parts.uri.path();
    path.strip_suffix(behind).unwrap_or(path).to_owned()
}

fn redirect(to: &str) -> Result<Response, Status> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let value =
        HeaderValue::from_str(to).map_err(|error| Status::bad_request(error.to_string()))?;
    response.headers_mut().insert(header::LOCATION, value);
    Ok(response)
}

/// The path that a redirect leads to, if it stays at the target.
fn inside<'a>(location: &'a str, host: &str, port: u16) -> Option<&'a str> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(location);
    }
    let rest = location.strip_prefix("http://").or_else(|| location.strip_prefix("https://"))?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    (authority == host || authority == format!("{host}:{port}")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_redirects_of_the_target_itself_are_rewritten() {
        assert_eq!(inside("/a/b", "10.0.0.1", 80), Some("/a/b"));
        assert_eq!(inside("http://10.0.0.1:80/a", "10.0.0.1", 80), Some("/a"));
        assert_eq!(inside("http://10.0.0.1", "10.0.0.1", 80), Some(""));
        assert_eq!(inside("http://elsewhere/a", "10.0.0.1", 80), None);
        assert_eq!(inside("//elsewhere/a", "10.0.0.1", 80), None);
    }
}
