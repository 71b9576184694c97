//! From objects to what goes over the wire: JSON as stored, or YAML, protobuf, tables, metadata.

mod list;

use std::sync::Arc;

use apimachinery::{Object, Status};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    Shared,
    http::{
        accept::{Format, Media, Target},
        body::{Body, Response},
        yaml,
    },
    registry::{Call, convert, modify::stored_value, normalize, resource::Endpoint, scan},
    table::{self, Include},
};

/// The answer to a request.
pub struct Answer {
    /// Status code.
    pub code: StatusCode,
    /// What is sent.
    pub content: Content,
}

/// What is sent.
pub enum Content {
    /// An object as stored.
    Object(Arc<Object>),
    /// An object of the storage version.
    Value(Value),
    /// An object of another kind, in the version in which it is sent.
    Other(Value),
    /// Objects.
    List(List),
    /// A Status.
    Status(Status),
    /// Something that is finished.
    Response(Response),
}

/// Objects with what a list says about them.
pub struct List {
    /// The objects.
    pub objects: Vec<Arc<Object>>,
    /// The revision that the list shows.
    pub revision: u64,
    /// The continue token.
    pub next: Option<String>,
    /// How many objects are left for further pages.
    pub remaining: Option<usize>,
}

impl List {
    fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(next) = &self.next {
            metadata["continue"] = next.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

impl Answer {
    /// 200.
    pub fn ok(content: Content) -> Self {
        Self { code: StatusCode::OK, content }
    }

    /// 201.
    pub fn created(content: Content) -> Self {
        Self { code: StatusCode::CREATED, content }
    }

    /// The response, in the form that the client wants.
    ///
    /// # Errors
    /// 406 when the content has no such form.
    pub async fn respond(self, call: &Call<'_>) -> Result<Response, Status> {
        let mut representation = Representation::of(call)?;
        let format = call.format;
        let (server, endpoint) = (call.server, &call.endpoint);
        let body = match self.content {
            Content::Response(response) => return Ok(response),
            Content::Status(status) => {
                return Ok(respond(self.code, format, &status.to_value()));
            }
            Content::Other(value) => match format.media {
                Media::Protobuf => Body::from(normalize::to_protobuf(&value)?),
                _ => return Ok(respond(self.code, format, &value)),
            },
            Content::Object(object) => {
                let mut all = representation.present(server, vec![object]).await?;
                let object =
                    all.pop().ok_or_else(|| Status::internal("conversion lost an object"))?;
                Body::from(representation.object(&object)?)
            }
            Content::Value(value) if representation.shows_stored() => {
                Body::from(representation.value(value)?)
            }
            Content::Value(value) => {
                let value = convert::from_storage(server, endpoint, value).await?;
                Body::from(representation.value(value)?)
            }
            Content::List(mut list) => {
                list.objects = representation.present(server, list.objects).await?;
                representation.list(list).await?
            }
        };
        Ok(with_type(self.code, format.media, body))
    }
}

/// A response with `value` as JSON or YAML.
pub fn respond(code: StatusCode, format: Format, value: &Value) -> Response {
    let (media, body) = match format.media {
        Media::Yaml => (Media::Yaml, yaml::write(value).into_bytes()),
        _ if format.pretty => (Media::Json, serde_json::to_vec_pretty(value).unwrap_or_default()),
        _ => (Media::Json, serde_json::to_vec(value).unwrap_or_default()),
    };
    with_type(code, media, Body::from(body))
}

fn with_type(code: StatusCode, media: Media, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let value = HeaderValue::from_static(media.as_str());
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// The form in which the objects of an endpoint are sent to a client.
pub struct Representation {
    endpoint: Endpoint,
    format: Format,
    include: Include,
    /// Tables of a watch carry their columns once.
    headers_sent: bool,
}

impl Representation {
    /// The same without line breaks and indentation.
    pub(crate) fn compact(mut self) -> Self {
        self.format.pretty = false;
        self
    }

    /// What the request wants.
    ///
    /// # Errors
    /// 400 for an `includeObject` that does not exist.
    pub fn of(call: &Call<'_>) -> Result<Self, Status> {
        let include = match call.format.target {
            Target::Table => Include::parse(call.query.get("includeObject").unwrap_or_default())?,
            _ => Include::Metadata,
        };
        let endpoint = call.endpoint.clone();
        Ok(Self { endpoint, format: call.format, include, headers_sent: false })
    }

    /// Whether objects are shown from their stored version: the columns of built-in kinds are.
    fn shows_stored(&self) -> bool {
        self.format.target == Target::Table && !self.endpoint.resource.is_custom()
    }

    /// Stored objects in the version in which the other methods take them.
    ///
    /// # Errors
    /// The Status of a conversion webhook that failed.
    pub async fn present(
        &self,
        server: &Shared,
        objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        match self.shows_stored() {
            true => Ok(objects),
            false => convert::present(server, &self.endpoint, objects).await,
        }
    }

    /// Whether the bytes of objects go out as they are.
    fn passes(&self) -> bool {
        let Format { media, pretty, target, .. } = self.format;
        media == Media::Json && !pretty && target == Target::Object
    }

    /// One presented object.
    fn object(&mut self, object: &Object) -> Result<Bytes, Status> {
        if self.passes() {
            return Ok(object.body.clone());
        }
        if self.format.target == Target::Object && self.format.media == Media::Protobuf {
            let kind = &self.endpoint.version().gvk;
            return normalize::text_to_protobuf(kind, &object.body).map(Bytes::from);
        }
        if self.format.target == Target::Metadata && self.format.media == Media::Json {
            let partial = self.partial(object)?;
            if !self.format.pretty {
                return Ok(partial);
            }
            let value = serde_json::from_slice(&partial).unwrap_or_default();
            return self.encode(value);
        }
        let value = stored_value(object)?;
        self.value(value)
    }

    /// One presented object.
    fn value(&mut self, value: Value) -> Result<Bytes, Status> {
        let meta_version = self.format.meta_version();
        let value = match self.format.target {
            Target::Object => value,
            Target::Metadata => partial_value(&value, meta_version),
            Target::MetadataList => {
                return Err(not_acceptable(&format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a \
                     list (*{})",
                    self.go_type(&self.endpoint.version().gvk.kind)
                )));
            }
            Target::Table => {
                let revision = value["metadata"]["resourceVersion"].clone();
                self.table(vec![value], json!({ "resourceVersion": revision }))
            }
        };
        self.encode(value)
    }

    /// What upstream holds an object, or a list of them, in.
    fn go_type(&self, kind: &str) -> String {
        match (self.endpoint.resource.is_custom(), kind.ends_with("List")) {
            (false, _) => normalize::internal_type(&self.endpoint.version().gvk.group, kind),
            (true, true) => "unstructured.UnstructuredList".to_owned(),
            (true, false) => "unstructured.Unstructured".to_owned(),
        }
    }

    /// A finished value: of the endpoint's kind, or one of the meta kinds.
    fn encode(&self, value: Value) -> Result<Bytes, Status> {
        Ok(match self.format.media {
            Media::Yaml => yaml::write(&value).into(),
            Media::Protobuf => normalize::to_protobuf(&value)?.into(),
            Media::Json if self.format.pretty => {
                serde_json::to_vec_pretty(&value).unwrap_or_default().into()
            }
            Media::Json => serde_json::to_vec(&value).unwrap_or_default().into(),
        })
    }

    fn partial(&self, object: &Object) -> Result<Bytes, Status> {
        // Near the beginning: what follows is not looked at.
        let metadata = scan::fields(&object.body)
            .find(|field| &object.body[field.name.clone()] == b"metadata")
            .ok_or_else(|| Status::internal("stored object is damaged: it has no metadata"))?;
        let metadata = &object.body[metadata.whole];
        let mut out = BytesMut::with_capacity(metadata.len() + 96);
        out.put_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
        out.put_slice(self.format.meta_version().as_bytes());
        out.put_slice(b"\",");
        out.put_slice(metadata);
        out.put_u8(b'}');
        Ok(out.freeze())
    }

    fn table(&self, objects: Vec<Value>, metadata: Value) -> Value {
        let meta_version = self.format.meta_version();
        table::table(&self.endpoint, objects, self.include, metadata, meta_version)
    }
}

/// `value` as PartialObjectMetadata.
pub fn partial_value(value: &Value, meta_version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": meta_version,
        "metadata": value.get("metadata").cloned().unwrap_or_default(),
    })
}

fn not_acceptable(message: &str) -> Status {
    Status::failure(406, "NotAcceptable", message)
}

/// Writes a watch event with a stored object.
pub fn write_event(
    representation: &mut Representation,
    kind: &str,
    object: &Object,
    out: &mut BytesMut,
) {
    let body = match representation.format.target {
        Target::Table if representation.headers_sent => stored_value(object).and_then(|value| {
            let mut table = representation.table(vec![value], row_metadata(object.revision));
            table["columnDefinitions"] = Value::Null;
            representation.encode(table)
        }),
        Target::Table => stored_value(object).and_then(|value| {
            let table = representation.table(vec![value], row_metadata(object.revision));
            representation.encode(table)
        }),
        _ => representation.object(object),
    };
    representation.headers_sent = true;
    match body {
        Ok(body) => frame(representation, kind, &body, out),
        Err(status) => write_error_event(representation, &status, out),
    }
}

fn row_metadata(revision: u64) -> Value {
    json!({ "resourceVersion": revision.to_string() })
}

/// Writes a bookmark: an object of the kind with nothing but a revision.
pub fn write_bookmark(
    representation: &mut Representation,
    revision: u64,
    annotation: Option<&str>,
    out: &mut BytesMut,
) {
    let version = representation.endpoint.version();
    let mut object = json!({
        "kind": &*version.gvk.kind, "apiVersion": version.api_version(),
        "metadata": { "resourceVersion": revision.to_string() },
    });
    if let Some(annotation) = annotation {
        object["metadata"]["annotations"] = json!({ annotation: "true" });
    }
    let meta_version = representation.format.meta_version();
    let object = match representation.format.target {
        Target::Object => object,
        Target::Metadata | Target::MetadataList => partial_value(&object, meta_version),
        Target::Table => {
            let mut table = table::bookmark(&object, meta_version);
            table["metadata"] = row_metadata(revision);
            table
        }
    };
    if let Ok(body) = representation.encode(object) {
        frame(representation, "BOOKMARK", &body, out);
    }
}

/// Writes the event with which a watch fails.
pub fn write_error_event(representation: &Representation, status: &Status, out: &mut BytesMut) {
    if let Ok(body) = representation.encode(status.to_value()) {
        frame(representation, "ERROR", &body, out);
    }
}

fn frame(representation: &Representation, kind: &str, body: &[u8], out: &mut BytesMut) {
    if representation.format.media == Media::Protobuf {
        normalize::protobuf_event(kind, body, out);
        return;
    }
    out.reserve(body.len() + 32);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(body);
    out.put_slice(b"}\n");
}
