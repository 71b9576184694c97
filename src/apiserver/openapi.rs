//! `/openapi/v2` and `/openapi/v3`: what clients may know of the schemas. Documents are rendered
//! when asked for: clients keep them by their hash.

use std::sync::Arc;

use apimachinery::{
    Status,
    openapi::{self, Kind},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::{
    Shared,
    http::{
        body::{Body, Response},
        query::Query,
        router::not_found,
    },
    registry::{
        resource::{Resource, Version},
        resources::Table,
    },
};

/// The protobuf form of v2 as an answer names it: what clients ask for has an `@`, which is no
/// media type to Go's parser, so upstream answers with this.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers a request below `/openapi`. `path` has no trailing slash.
///
/// # Errors
/// 406 for a form that it cannot be had in.
pub async fn answer(
    server: &Shared,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> Result<Response, Status> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let wants = |media: &str| accept.contains(media);
    let json =
        accept.is_empty() || ["application/json", "*/*", "application/*"].into_iter().any(wants);
    let rest = path.strip_prefix("/openapi/").unwrap_or_default();
    if rest == "v2" {
        let protobuf = [openapi::V2_PROTOBUF, V2_PROTOBUF].into_iter().any(wants);
        if !protobuf && !json {
            return Err(Status::not_acceptable(&["application/json", openapi::V2_PROTOBUF]));
        }
        let (bytes, tag) = render(server, move |documents| {
            let kinds = documents.kinds(|_, _| true);
            let tag = openapi::hash(&kinds);
            let bytes = if protobuf { openapi::v2_protobuf(&kinds) } else { openapi::v2(&kinds) };
            (bytes, tag)
        })
        .await?;
        let kind = if protobuf { V2_PROTOBUF } else { "application/json" };
        return Ok(tagged(bytes, kind, &tag, headers, false));
    }
    if !json {
        return Err(Status::not_acceptable(&["application/json"]));
    }
    if rest == "v3" {
        let bytes = render(server, |documents| documents.index().to_string().into_bytes()).await?;
        return Ok(with_type(StatusCode::OK, bytes, "application/json"));
    }
    let Some(wanted) = rest.strip_prefix("v3/") else { return Ok(not_found()) };
    let wanted_owned = wanted.to_owned();
    let found = render(server, move |documents| documents.v3(&wanted_owned)).await?;
    let Some((bytes, tag)) = found else {
        return Ok(with_type(StatusCode::NOT_FOUND, Vec::new(), "text/plain"));
    };
    match query.text("hash") {
        // The document of a hash never changes; an outdated hash leads to the present one.
        Some(asked) if asked != tag => {
            let mut response = with_type(StatusCode::MOVED_PERMANENTLY, Vec::new(), "text/plain");
            let location = format!("/openapi/v3/{wanted}?hash={tag}");
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        asked => Ok(tagged(bytes, "application/json", &tag, headers, asked.is_some())),
    }
}

/// Renders on a thread of its own: the large documents take some milliseconds.
async fn render<T: Send + 'static>(
    server: &Shared,
    make: impl FnOnce(&Loaded) -> T + Send + 'static,
) -> Result<T, Status> {
    let documents = Documents { server: server.arc(), table: server.resources.table_owned() };
    tokio::task::spawn_blocking(move || make(&documents.loaded())).await.map_err(Status::internal)
}

struct Documents {
    server: Arc<Shared>,
    table: Arc<Table>,
}

/// The versions that are shown, with the schemas of custom ones.
struct Loaded {
    table: Arc<Table>,
    /// By the place of resource and version.
    custom: Vec<((usize, usize), Value)>,
}

impl Documents {
    fn loaded(&self) -> Loaded {
        let mut custom = Vec::new();
        for (at, resource) in self.table.all.iter().enumerate() {
            for (version_at, version) in resource.versions.iter().enumerate() {
                if let Some(schema) = self.custom_schema(resource, version) {
                    custom.push(((at, version_at), schema));
                }
            }
        }
        Loaded { table: self.table.clone(), custom }
    }

    fn custom_schema(&self, resource: &Resource, version: &Version) -> Option<Value> {
        let definition = resource.definition.as_ref()?;
        let (group, plural) = ("apiextensions.k8s.io", "customresourcedefinitions");
        let object = self.server.get(group, plural, "", &definition.name)?;
        let mut value = object.value().ok()?;
        let versions = value["spec"]["versions"].as_array_mut()?;
        let found = versions.iter_mut().find(|found| found["name"] == *version.gvk.version)?;
        Some(found["schema"]["openAPIV3Schema"].take())
    }
}

impl Loaded {
    /// The kinds of the versions that `wanted` takes, by group and version.
    fn kinds(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<Kind<'_>> {
        let mut kinds = Vec::new();
        for (at, resource) in self.table.all.iter().enumerate() {
            for (version_at, version) in resource.versions.iter().enumerate() {
                if !wanted(&version.gvk.group, &version.gvk.version) {
                    continue;
                }
                let found = self.custom.iter().find(|(place, _)| *place == (at, version_at));
                let custom = found.map(|(_, schema)| schema);
                if resource.is_custom() && custom.is_none() {
                    continue;
                }
                kinds.push(Kind { resource: &version.facts, custom });
            }
        }
        kinds
    }

    fn group_versions(&self) -> Vec<(&str, &str)> {
        let mut all: Vec<(&str, &str)> = Vec::new();
        for version in self.table.all.iter().flat_map(|resource| &resource.versions) {
            let pair = (&*version.gvk.group, &*version.gvk.version);
            if !all.contains(&pair) {
                all.push(pair);
            }
        }
        all
    }

    fn index(&self) -> Value {
        openapi::v3_index(self.group_versions().into_iter().map(|(group, version)| {
            let kinds = self.kinds(|g, v| (g, v) == (group, version));
            (group, version, openapi::hash(&kinds))
        }))
    }

    /// The document at a path such as `apis/apps/v1`, and its hash.
    fn v3(&self, path: &str) -> Option<(Vec<u8>, String)> {
        let mut all = self.group_versions().into_iter();
        let (group, version) =
            all.find(|(group, version)| openapi::v3_path(group, version) == path)?;
        let kinds = self.kinds(|g, v| (g, v) == (group, version));
        Some((openapi::v3(group, version, &kinds), openapi::hash(&kinds)))
    }
}

fn with_type(code: StatusCode, bytes: Vec<u8>, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = code;
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn tagged(
    bytes: Vec<u8>,
    content_type: &'static str,
    tag: &str,
    request: &HeaderMap,
    forever: bool,
) -> Response {
    let tag = format!("\"{tag}\"");
    let known = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = match known.is_some_and(|known| known.split(',').any(|k| k.trim() == tag)) {
        true => with_type(StatusCode::NOT_MODIFIED, Vec::new(), content_type),
        false => with_type(StatusCode::OK, bytes, content_type),
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if forever {
        let cache = "public, immutable, max-age=31536000";
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    }
    response
}
