//! Requests that no typed method covers, or whose answers are not worth a typed parse.

use std::sync::Arc;

use apimachinery::{Object, Status};
use bytes::Bytes;
use client::Client;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused it.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// The API server was not reached, or did not answer as it should.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Whether the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused(status) if status.code == 404)
    }

    /// Whether the object is another one, or was changed in between.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Error::Refused(status) if status.code == 409)
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Result<Bytes, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Failed(error.to_string());
    let body = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(serde_json::to_vec(body).map_err(|error| failed(&error))?)
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .header(http::header::ACCEPT, "application/json")
        .body(body)
        .map_err(|error| failed(&error))?;
    let response = client.transport().send(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) => Err(Error::Refused(Box::new(status))),
        Err(_) if status == StatusCode::NOT_FOUND => {
            Err(Error::Refused(Box::new(Status::failure(404, "NotFound", "not found"))))
        }
        Err(_) => Err(Error::Failed(format!("the server answered {status}"))),
    }
}

/// Sends `body` and answers the JSON of the answer.
pub(crate) async fn post(client: &Client, path: &str, body: &Value) -> Result<Value, Error> {
    let bytes = send(client, Method::POST, path, "application/json", body).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Failed(error.to_string()))
}

/// The JSON at `path`.
pub(crate) async fn get(client: &Client, path: &str) -> Result<Value, Error> {
    let bytes = send(client, Method::GET, path, "application/json", &Value::Null).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Failed(error.to_string()))
}

/// Applies a strategic merge patch to a subresource or object and answers the object.
pub(crate) async fn patch(
    client: &Client,
    path: &str,
    patch: &Value,
) -> Result<Arc<Object>, Error> {
    let kind = "application/strategic-merge-patch+json";
    let bytes = send(client, Method::PATCH, path, kind, patch).await?;
    let object = Object::parse_index(bytes, &[] as &[&str]);
    Ok(Arc::new(object.map_err(|error| Error::Failed(error.to_string()))?))
}

/// Applies a merge patch; the answer is not read.
pub(crate) async fn merge(client: &Client, path: &str, patch: &Value) -> Result<(), Error> {
    let kind = "application/merge-patch+json";
    send(client, Method::PATCH, path, kind, patch).await.map(drop)
}

/// Deletes a pod for good: what ran of it is gone. Only the pod with this uid.
pub(crate) async fn delete_pod(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), Error> {
    let options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": uid},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    send(client, Method::DELETE, &path, "application/json", &options).await.map(drop)
}
