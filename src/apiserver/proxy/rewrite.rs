//! The proxy of pods, Services and nodes: an empty path is redirected, and redirects and links of
//! the target are turned into paths below the proxy.

use apimachinery::Status;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::BodyExt;

use super::{forward, html::Page};
use crate::{
    http::{
        body::{Body, BoxError, Response},
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
    if target.path.is_empty() {
        target.path.push('/');
    }
    target.path.push_str(&query(parts));
    let links = Links::new(&prefix, &target.host, target.port);
    let nothing = HeaderMap::new();
    let readable;
    let headers = match forward::is_upgrade(call.headers) {
        true => call.headers,
        // A compressed page could not be rewritten.
        false => {
            readable = without(call.headers, &header::ACCEPT_ENCODING);
            &readable
        }
    };
    let mut response = forward::send(call.server, headers, parts, body, target, nothing).await?;
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    if let Some(through) = location.and_then(|location| links.through(location))
        && let Ok(value) = HeaderValue::from_str(&through)
    {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(if is_page(response.headers()) { rewritten(response, links) } else { response })
}

fn without(headers: &HeaderMap, name: &header::HeaderName) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(name);
    headers
}

/// Whether the answer is a page that can be read.
fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim() == "text/html" && !headers.contains_key(header::CONTENT_ENCODING)
}

/// `response` with the links of its page leading through the proxy.
fn rewritten(response: Response, links: Links) -> Response {
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let page = Page::new(links);
    let pieces = stream::unfold(Some((body, page)), async |state| {
        let (mut body, mut page) = state?;
        loop {
            let rest = match body.frame().await {
                None => Ok((page.finish(), None)),
                Some(Err(error)) => Err(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => Ok((page.feed(&piece), Some((body, page)))),
                    Err(_) => continue,
                },
            };
            return Some(match rest {
                Ok((piece, state)) => (Ok(piece.into()), state),
                Err(error) => (Err(error), None),
            });
        }
    });
    let pieces = pieces.filter(|piece: &Result<bytes::Bytes, BoxError>| {
        let send = piece.as_ref().map_or(true, |piece| !piece.is_empty());
        std::future::ready(send)
    });
    Response::from_parts(head, Body::stream(pieces))
}

/// Where the target's own places are, seen from the client.
pub(super) struct Links {
    /// The path up to and with `/proxy`.
    prefix: String,
    host: String,
    port: u16,
}

impl Links {
    pub(super) fn new(prefix: &str, host: &str, port: u16) -> Self {
        Self { prefix: prefix.to_owned(), host: host.to_owned(), port }
    }

    /// The address by which the client gets to `link`; `None` where that is `link` itself.
    pub(super) fn through(&self, link: &str) -> Option<String> {
        let inside = inside(link, &self.host, self.port)?;
        (!inside.starts_with(&self.prefix)).then(|| format!("{}{inside}", self.prefix))
    }
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
