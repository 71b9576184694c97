//! From a request to its answer: who asks, what, may they, and which room answers.

use std::{sync::Arc, time::Instant};

use apimachinery::Status;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use crate::{
    Shared, aggregator,
    authentication::{Peer, impersonation},
    discovery, health,
    http::{
        accept::{self, Format, Offer},
        body::{Body, Response},
        decode::{Payload, Unread},
        gzip,
        info::{self, Rest},
        query::{self, Query},
    },
    openapi,
    registry::{Call, Warnings, answer},
    request::{RequestInfo, UserInfo},
    verbs,
};

/// Answers a request from a connection.
pub async fn serve(server: &Arc<Shared>, peer: &Peer, request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    let body = Payload::Incoming(Unread::new(body));
    let user = match authenticate(server, peer, &parts.headers) {
        Ok(user) => user,
        Err(status) => return finish(refuse(&parts.headers, "", &status), false),
    };
    let compressed = gzip::wanted(&parts.headers);
    finish(handle(server, &user, parts, body).await, compressed)
}

fn authenticate(server: &Shared, peer: &Peer, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let user = server.authenticator.authenticate(headers, peer)?;
    match impersonation::impersonated(&server.authorizer, &user, headers)? {
        Some(other) => Ok(other),
        None => Ok(user),
    }
}

/// What every answer to the network has.
fn finish(mut response: Response, compressed: bool) -> Response {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    if compressed { gzip::compress(response) } else { response }
}

/// Answers a request of a known user, from a connection or from inside the process.
pub async fn handle(server: &Shared, user: &UserInfo, mut parts: Parts, body: Payload) -> Response {
    let start = Instant::now();
    let uri = parts.uri.clone();
    let path = query::decode(uri.path(), false);
    let query = Query::parse(uri.query().unwrap_or_default());
    let (info, rest) = info::request_info(&parts.method, &path, &query);
    let remote = server.aggregator.find(&path);
    if let Err(status) = query::check_timeout(&query) {
        return refuse(&parts.headers, &query_text(&uri), &status);
    }
    let result = match (server.authorizer.check(user, &info), remote) {
        (Err(status), _) => Err(status),
        (Ok(()), Some(remote)) => aggregator::answer(server, &remote, user, &mut parts, body).await,
        (Ok(()), None) if info.is_resource => {
            resource(server, user, &info, &rest, &query, &mut parts, body).await
        }
        (Ok(()), None) => other(server, &info, &query, &parts).await,
    };
    let response =
        result.unwrap_or_else(|status| refuse(&parts.headers, &query_text(&uri), &status));
    server.metrics.answered(&info, response.status().as_u16(), start.elapsed());
    response
}

fn query_text(uri: &http::Uri) -> String {
    uri.query().unwrap_or_default().to_owned()
}

/// A Status as the answer.
pub fn refuse(headers: &HeaderMap, query: &str, status: &Status) -> Response {
    let query = Query::parse(query);
    let format = accept::negotiate(headers, &query, Offer::PLAIN).unwrap_or_default();
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer::respond(code, format, &status.to_value());
    if let Some(seconds) = status.details.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

async fn resource(
    server: &Shared,
    user: &UserInfo,
    info: &RequestInfo,
    rest: &Rest,
    query: &Query<'_>,
    parts: &mut Parts,
    body: Payload,
) -> Result<Response, Status> {
    let table = server.resources.table();
    let endpoint = table.endpoint(&info.group, &info.version, &info.resource).cloned();
    let known_group = table.has_group(&info.group);
    drop(table);
    let Some(endpoint) = endpoint else {
        return if known_group { Err(Status::unknown_resource()) } else { Ok(not_found()) };
    };
    let offer = Offer {
        protobuf: !endpoint.resource.is_custom(),
        targets: endpoint.resource.collection.is_some(),
        streams: matches!(&*info.verb, "list" | "watch"),
    };
    let headers = std::mem::take(&mut parts.headers);
    let format = match accept::negotiate(&headers, query, offer) {
        Ok(format) => format,
        // Upgrades and logs answer in a form of their own whatever is accepted.
        Err(_) if !info.subresource.is_empty() => Format::default(),
        Err(status) => {
            parts.headers = headers;
            return Err(status);
        }
    };
    let call = Call {
        server,
        endpoint,
        user,
        info,
        rest,
        query,
        headers: &headers,
        format,
        warnings: Warnings::default(),
    };
    if let Some(warning) = &call.endpoint.version().deprecation {
        call.warnings.add(warning.as_str());
    }
    let result = verbs::dispatch(&call, parts, body).await;
    let result = result.map(|mut response| {
        let warnings = call.warnings.take();
        add_warnings(&mut response, &warnings);
        response
    });
    // The refusal may carry warnings too.
    let result = result.or_else(|status| {
        let warnings = call.warnings.take();
        if warnings.is_empty() {
            return Err(status);
        }
        let mut response = refuse(&headers, "", &status);
        add_warnings(&mut response, &warnings);
        Ok(response)
    });
    parts.headers = headers;
    result
}

/// Warnings as `Warning: 299 - "text"` headers, within the limits that upstream sets.
fn add_warnings(response: &mut Response, warnings: &[String]) {
    const ONE: usize = 256;
    const ALL: usize = 4096;
    let mut total = 0;
    for warning in warnings {
        let long = warnings.iter().map(String::len).sum::<usize>() > ALL;
        let mut text: String =
            warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if long && text.len() > ONE {
            let cut = (0..=ONE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
        }
        total += text.len();
        if total > ALL {
            return;
        }
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        let value = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes());
        if let Ok(value) = value {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// 404 as upstream's mux gives it, in plain text.
pub fn not_found() -> Response {
    let mut response = text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// A plain text answer.
pub fn text(code: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let value = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// Everything that is no resource.
async fn other(
    server: &Shared,
    info: &RequestInfo,
    query: &Query<'_>,
    parts: &Parts,
) -> Result<Response, Status> {
    let read = matches!(parts.method, Method::GET | Method::HEAD);
    let path = info.path.trim_end_matches('/');
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if !read {
        return Ok(not_found());
    }
    Ok(match first {
        "" => discovery::paths(server),
        "api" | "apis" => return discovery::answer(server, path, query, &parts.headers),
        "openapi" => return openapi::answer(server, path, query, &parts.headers).await,
        "healthz" | "livez" | "readyz" => health::answer(server, path, query),
        ".well-known" if path == "/.well-known/openid-configuration" => {
            let tokens = &server.authenticator.tokens;
            let keys = format!("https://{}/openid/v1/jwks", server.config.advertise);
            let document = tokens.keys().discovery(tokens.issuer(), &keys);
            answer::respond(StatusCode::OK, Format::default(), &document)
        }
        "openid" if path == "/openid/v1/jwks" => {
            let keys = server.authenticator.tokens.keys().jwks();
            let mut response = answer::respond(StatusCode::OK, Format::default(), &keys);
            let kind = HeaderValue::from_static("application/jwk-set+json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "version" => {
            let format = accept::negotiate(&parts.headers, query, Offer::PLAIN).unwrap_or_default();
            answer::respond(StatusCode::OK, format, &discovery::version())
        }
        "metrics" => text(StatusCode::OK, server.metrics.render()),
        _ => not_found(),
    })
}
