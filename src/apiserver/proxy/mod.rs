//! Requests that others answer: kubelets (logs, exec, attach, port-forward, node proxy), pods and
//! Services. Each file finds one kind of target; [`forward`] does the rest.

pub(crate) mod forward;
mod html;
mod kubelet;
mod pod;
mod rewrite;
pub(crate) mod service;
mod websocket;

use apimachinery::{GroupVersionKind, Status};
use http::{HeaderMap, StatusCode, request::Parts};
use http_body_util::{BodyExt, Limited};
use serde_json::{Map, Value};

use crate::{
    admission::{self, Operation},
    http::{body::Response, decode::Payload},
    registry::Call,
};

/// How much of a kubelet's refusal is passed on.
const LONGEST_REFUSAL: usize = 50_000;

/// Answers a request on a subresource that someone else serves.
///
/// # Errors
/// The Status that refuses it.
pub async fn answer(call: &Call<'_>, parts: &mut Parts, body: Payload) -> Result<Response, Status> {
    let resource = call.resource().plural();
    let subresource = &*call.info.subresource;
    if matches!(subresource, "exec" | "attach" | "portforward") {
        require_create(call)?;
    }
    if subresource != "log" {
        admit(call).await?;
    }
    match (resource, subresource) {
        ("pods", "log") => {
            let Some(target) = kubelet::log(call)? else {
                return Ok(crate::http::router::text(StatusCode::NO_CONTENT, String::new()));
            };
            if forward::is_upgrade(call.headers) {
                return websocket::stream(call, parts, target).await;
            }
            let nothing = Payload::Bytes(bytes::Bytes::new());
            let more = HeaderMap::new();
            let answer =
                forward::send(call.server, call.headers, parts, nothing, target, more).await?;
            checked(answer).await
        }
        ("pods", "exec" | "attach" | "portforward") => {
            let target = kubelet::stream(call)?;
            if !forward::is_upgrade(call.headers) {
                return Err(Status::bad_request("Upgrade request required"));
            }
            forward::send(call.server, call.headers, parts, body, target, HeaderMap::new()).await
        }
        ("nodes", _) => {
            let path = path_behind(parts, call);
            let target = kubelet::node(call, path)?;
            rewrite::send(call, parts, body, target).await
        }
        ("pods", _) => rewrite::send(call, parts, body, pod::pod(call, parts)?).await,
        _ => rewrite::send(call, parts, body, pod::service(call, parts)?).await,
    }
}

/// What a kubelet says in plain text when it has no log becomes a Status, as clients expect it.
async fn checked(answer: Response) -> Result<Response, Status> {
    let code = answer.status();
    if code.is_success() {
        return Ok(answer);
    }
    let body = Limited::new(answer.into_body(), LONGEST_REFUSAL).collect().await;
    let text = body.map(|body| body.to_bytes()).map_err(Status::internal)?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    Err(match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(text),
        _ => Status::internal(text),
    })
}

/// Whoever may only read must not open a terminal, although a WebSocket begins with a GET.
fn require_create(call: &Call<'_>) -> Result<(), Status> {
    if call.info.verb == "create" {
        return Ok(());
    }
    let mut info = call.info.clone();
    "create".clone_into(&mut info.verb);
    call.server.authorizer.check(call.user, &info)
}

/// Admission of a connection: the object is the options of the connection.
async fn admit(call: &Call<'_>) -> Result<(), Status> {
    let version = call.endpoint.version();
    let Some(sub) = version.subresource(&call.info.subresource) else { return Ok(()) };
    let kind = &GroupVersionKind::new(&sub.group, &sub.version, &sub.kind);
    let mut options = Map::new();
    options.insert("kind".into(), (*kind.kind).into());
    options.insert("apiVersion".into(), kind.api_version().into());
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if let Some(value) = call.query.flag(flag) {
            options.insert(flag.into(), value.into());
        }
    }
    if let Some(container) = call.query.text("container") {
        options.insert("container".into(), container.into());
    }
    let command: Vec<&str> = call.query.all("command").collect();
    if !command.is_empty() {
        options.insert("command".into(), command.into());
    }
    let mut options = Value::Object(options);
    let request = call.admission(Operation::Connect, kind, None, false, &Value::Null);
    let mut warnings = admission::mutate(call.server, &request, &mut options).await?;
    warnings.extend(admission::validate(call.server, &request, &options).await?);
    warnings.into_iter().for_each(|warning| call.warnings.add(warning));
    Ok(())
}

/// The part of the raw path behind `/proxy`, with its slash; empty where the path ends there.
fn path_behind(parts: &Parts, call: &Call<'_>) -> String {
    let steps = if call.info.namespace.is_empty() { 6 } else { 8 };
    let raw = parts.uri.path();
    let behind = raw.match_indices('/').nth(steps - 1).map_or("", |(at, _)| &raw[at..]);
    behind.to_owned()
}
