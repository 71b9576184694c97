//! The way to the API for components of the same process: no sockets, no TLS, and watches that
//! share the objects of the store.

use std::sync::Arc;

use apimachinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use client::transport::{
    Body as ClientBody, BoxError, Transport, WatchItem, WatchRequest, WatchStream,
};
use futures::{StreamExt, stream};
use http::Method;
use http_body_util::BodyExt;

use crate::{
    Shared,
    http::{body::Response, decode::Payload, info::exact_name, router},
    registry::{
        convert,
        options::ListOptions,
        resource::Endpoint,
        selection::Selection,
        watch::{Occurrence, Source},
    },
    request::{RequestInfo, UserInfo},
};

/// The API as one component uses it.
#[derive(Clone)]
pub struct Local {
    server: Arc<Shared>,
    user: Arc<UserInfo>,
}

impl Local {
    /// The API of `server` for `user`.
    pub fn new(server: Arc<Shared>, user: UserInfo) -> Self {
        Self { server, user: Arc::new(user) }
    }

    /// Answers one request.
    pub async fn handle(&self, request: http::Request<Bytes>) -> Response {
        let (parts, body) = request.into_parts();
        router::handle(&self.server, &self.user, parts, Payload::Bytes(body)).await
    }

    /// What watching is to authorization.
    fn authorize(&self, request: &WatchRequest) -> Result<(), Status> {
        for verb in ["list", "watch"] {
            let info = RequestInfo {
                verb: verb.to_owned(),
                is_resource: true,
                path: request.resource.path(request.namespace.as_deref()),
                group: request.resource.group.to_string(),
                version: request.resource.version.to_string(),
                namespace: request.namespace.clone().unwrap_or_default(),
                resource: request.resource.resource.to_string(),
                name: request.fields.as_deref().and_then(exact_name).unwrap_or_default(),
                selectors: (request.labels.clone(), request.fields.clone()),
                ..RequestInfo::default()
            };
            self.server.authorizer.check(&self.user, &info)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Transport for Local {
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<ClientBody>, BoxError> {
        Ok(self.handle(request).await.map(BodyExt::boxed))
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Status> {
        self.authorize(&request)?;
        let resource = &request.resource;
        let endpoint = self
            .server
            .resources
            .table()
            .endpoint(&resource.group, &resource.version, &resource.resource)
            .cloned()
            .ok_or_else(Status::unknown_resource)?;
        let options = ListOptions {
            watch: true,
            labels: request.labels.unwrap_or_default(),
            fields: request.fields.unwrap_or_default(),
            revision: request.since,
            bookmarks: true,
            send_initial_events: Some(request.since.is_none()),
            ..ListOptions::default()
        };
        let namespace = request.namespace.unwrap_or_default();
        let selection = Selection::new(&endpoint, &namespace, "", &options)?;
        let source = Source::open(&self.server, &endpoint, selection, &options).await?;
        let state = Some((source, endpoint, self.server.clone()));
        Ok(stream::unfold(state, |state| async move {
            let (mut source, endpoint, server) = state?;
            let next = tokio::select! {
                biased;
                () = server.stop.cancelled() => return None,
                next = source.next() => next,
            };
            let item = match next {
                Ok(occurrence) => item(&server, &endpoint, occurrence).await,
                Err(status) => Err(status),
            };
            match item {
                Ok(item) => Some((Ok(item), Some((source, endpoint, server)))),
                Err(status) => Some((Err(status), None)),
            }
        })
        .boxed())
    }
}

async fn item(
    server: &Shared,
    endpoint: &Endpoint,
    occurrence: Occurrence,
) -> Result<WatchItem, Status> {
    Ok(match occurrence {
        Occurrence::Added(object) | Occurrence::Modified(object) => {
            WatchItem::Put(convert::present_one(server, endpoint, object).await?)
        }
        Occurrence::Deleted(object) => {
            WatchItem::Delete(convert::present_one(server, endpoint, object).await?)
        }
        Occurrence::Bookmark(revision, true) => WatchItem::Synced(revision),
        Occurrence::Bookmark(revision, false) => WatchItem::Bookmark(revision),
    })
}

/// Asks the server itself for something, as one of its own components does, and reads the answer.
impl Shared {
    /// Sends one request as `user`. `path` may have a query; `body` is JSON.
    ///
    /// # Errors
    /// The Status of a request that was refused.
    pub async fn ask(
        &self,
        user: &UserInfo,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<serde_json::Value, Status> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .header(http::header::USER_AGENT, "knarr")
            .body(body)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        let (parts, body) = request.into_parts();
        let response = router::handle(self, user, parts, Payload::Bytes(body)).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.map_err(Status::internal)?.to_bytes();
        let value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
        if code.is_success() {
            return Ok(value);
        }
        serde_json::from_value(value).map_err(Status::internal).and_then(Err)
    }
}
