//! Discovery: which groups, versions and resources there are.

pub mod aggregated;
pub mod plain;

use apimachinery::Status;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    Shared,
    http::{
        accept::{self, Format, Offer},
        body::Response,
        query::Query,
        router::not_found,
    },
    registry::answer::respond,
};

/// The version of Kubernetes that is spoken.
pub const VERSION: &str = "v1.37.2";

/// Answers a request below `/api` or `/apis`. `path` has no trailing slash.
///
/// # Errors
/// 406 for a form that it cannot be had in.
pub fn answer(
    server: &Shared,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> Result<Response, Status> {
    let table = server.resources.table_owned();
    let remotes = server.aggregator.remotes();
    let mut steps = path.trim_start_matches('/').split('/');
    let root = steps.next().unwrap_or_default();
    let rest: Vec<&str> = steps.collect();
    if rest.is_empty()
        && let Some(version) = aggregated::wanted(headers)
    {
        return Ok(aggregated::answer(&table, &remotes, root == "api", version, headers));
    }
    let format = accept::negotiate(headers, query, Offer { protobuf: true, ..Offer::PLAIN })?;
    let value = match (root, rest.as_slice()) {
        ("api", []) => plain::api_versions(server),
        ("api", [version]) => plain::resources(&table, "", version),
        ("apis", []) => Some(plain::groups(&table, &remotes)),
        ("apis", [group]) => plain::group(&table, &remotes, group),
        ("apis", [group, version]) => plain::resources(&table, group, version),
        _ => None,
    };
    let Some(value) = value else {
        let group = rest.first().copied().unwrap_or_default();
        // A group that is served answers for all that is below it.
        let known = root == "api" || rest.len() == 2 && table.has_group(group);
        return if known { Err(Status::unknown_resource()) } else { Ok(not_found()) };
    };
    Ok(respond(StatusCode::OK, Format { target: accept::Target::Object, ..format }, &value))
}

/// What `/version` answers. Clients parse the version; what follows the plus is ours.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "37",
        "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": format!("{VERSION}+knarr.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": platform(),
    })
}

fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// What `/` answers: the paths that there are.
pub fn paths(server: &Shared) -> Response {
    let table = server.resources.table();
    let mut paths: Vec<String> = vec!["/api".into(), "/api/v1".into(), "/apis".into()];
    for group in plain::group_list(&table, &server.aggregator.remotes()) {
        paths.push(format!("/apis/{}", group.name));
        paths
            .extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    paths.extend(
        ["healthz", "livez", "metrics", "openapi/v2", "openapi/v3", "readyz", "version"]
            .map(|path| format!("/{path}")),
    );
    respond(StatusCode::OK, Format::default(), &json!({ "paths": paths }))
}

/// A JSON answer with an ETag, or 304 where the client has it already.
fn tagged(bytes: Vec<u8>, content_type: &'static str, headers: &HeaderMap) -> Response {
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let tag: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let fresh = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
    let mut response = Response::new(if fresh { Vec::new().into() } else { bytes.into() });
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}
