//! Request bodies: read within a limit, then from JSON, YAML or protobuf into a value.

use std::time::Duration;

use crate::http::accept::{Media, SUPPORTED, SUPPORTED_CUSTOM};
use apimachinery::Status;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};

/// Larger bodies are refused; upstream's limit.
pub const LIMIT: usize = 3 << 20;
/// A body must be there after this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of a body that nobody wanted is read all the same, and for how long.
const DRAINED: usize = 256 << 10;
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// A body from a connection. One that is refused unread is still taken off the connection, up to a
/// limit: a client that sends everything before it looks for an answer would find the connection
/// reset and the answer lost. Go's server does the same.
#[derive(Debug)]
pub struct Unread(Option<Incoming>);

impl Unread {
    /// Watches over a body.
    pub fn new(body: Incoming) -> Self {
        Self(Some(body))
    }

    /// The body while nobody took it.
    pub fn body(&mut self) -> Option<&mut Incoming> {
        self.0.as_mut()
    }

    /// The same, to be looked at.
    pub fn look(&self) -> Option<&Incoming> {
        self.0.as_ref()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut body = Limited::new(body, DRAINED);
        let drain = async move { while let Some(Ok(_)) = body.frame().await {} };
        runtime.spawn(tokio::time::timeout(DRAIN_PATIENCE, drain));
    }
}

/// A request body that has not been read, or one from inside the process.
#[derive(Debug)]
pub enum Payload {
    /// From a connection.
    Incoming(Unread),
    /// From inside the process.
    Bytes(Bytes),
}

impl Payload {
    /// Reads the whole body.
    ///
    /// # Errors
    /// 413 when it is too large, 400 when the connection broke, 504 when it did not come.
    pub async fn read(self) -> Result<Bytes, Status> {
        let mut body = match self {
            Self::Bytes(bytes) if bytes.len() > LIMIT => return Err(too_large()),
            Self::Bytes(bytes) => return Ok(bytes),
            Self::Incoming(body) => body,
        };
        let Some(body) = body.0.take() else { return Ok(Bytes::new()) };
        let read = Limited::new(body, LIMIT).collect();
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(Status::bad_request(format!("cannot read the body: {error}"))),
            Err(_) => Err(Status::timeout("the request body did not come in time")),
        }
    }
}

fn too_large() -> Status {
    Status::too_large(format!("Request entity too large: limit is {LIMIT}"))
}

/// The media type of a body: the header's, JSON without one.
///
/// # Errors
/// 415 when it is none that is understood.
pub fn media_type(headers: &HeaderMap, protobuf: bool) -> Result<Media, Status> {
    let text = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let name = text.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match name.as_str() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" if protobuf => Ok(Media::Protobuf),
        _ => Err(Status::unsupported_media_type(if protobuf {
            &SUPPORTED
        } else {
            &SUPPORTED_CUSTOM
        })),
    }
}
