//! What carries requests to the API server: in-process on a server, HTTPS on an agent.

use std::sync::Arc;

use apimachinery::{GroupVersionResource, Object, Status};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http_body_util::combinators::BoxBody;

/// A boxed error, as tower and hyper bodies use it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub type Body = BoxBody<Bytes, BoxError>;

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchRequest {
    /// The resource, in the version whose JSON the objects carry.
    pub resource: GroupVersionResource,
    /// One namespace, or all of them.
    pub namespace: Option<String>,
    /// Label selector in its string form.
    pub labels: Option<String>,
    /// Field selector in its string form.
    pub fields: Option<String>,
    /// Continue after this revision; `None` starts with the objects that exist.
    pub since: Option<u64>,
}

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// The object exists (now) in this version.
    Put(Arc<Object>),
    /// The object is gone, or left the selection; this was its last version.
    Delete(Arc<Object>),
    /// All objects that existed when the watch began have been delivered, as of this revision.
    /// Comes once, and only when the request had no `since`.
    Synced(u64),
    /// Nothing to tell up to this revision: where to continue after a broken connection.
    Bookmark(u64),
}

/// Items until the watch ends. After an error nothing more comes; `Expired` (410) means that the
/// history is gone and the watch must begin anew, without `since`.
pub type WatchStream = BoxStream<'static, Result<WatchItem, Status>>;

/// A way to the API server, with the identity of its user built in.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one request. The URI has a path and a query, no host.
    ///
    /// # Errors
    /// When the server could not be reached; what it refused is an answer with a Status body.
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, BoxError>;

    /// Opens a watch.
    ///
    /// # Errors
    /// With the Status that refused it, or 503 when the server could not be reached.
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Status>;
}
