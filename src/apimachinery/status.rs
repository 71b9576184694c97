//! `metav1.Status`: how the API says what went wrong. Reasons, codes and messages are upstream's
//! (`k8s.io/apimachinery/pkg/api/errors`); clients branch on reason and code and show the message.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    field::FieldError,
    resource::{GroupResource, GroupVersionKind},
};

/// A failed (or, for deletions, successful) request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// HTTP status code.
    #[serde(default)]
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`; empty when there is none.
    #[serde(default)]
    pub reason: String,
    /// Text for people.
    #[serde(default)]
    pub message: String,
    /// `Failure`, or `Success`.
    #[serde(default)]
    pub status: String,
    /// What the failure is about.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
    /// List metadata: only the continue token of an expired list is ever set.
    #[serde(default)]
    pub metadata: Value,
}

/// `status.details`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object, if one is concerned.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource (or kind, for field errors).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The single causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// When to try again, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// Whether they are there though nothing is in them.
    #[serde(skip)]
    pub empty: bool,
}

impl Details {
    fn is_empty(&self) -> bool {
        self.name.is_empty()
            && self.group.is_empty()
            && self.kind.is_empty()
            && self.uid.is_empty()
            && self.causes.is_empty()
            && self.retry_after_seconds.is_none()
            && !self.empty
    }

    fn of(resource: &GroupResource, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..Self::default()
        }
    }
}

/// One cause of a failure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// Reason of this cause, such as `FieldValueRequired`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Text for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    /// A failure of any code and reason.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            status: "Failure".to_owned(),
            details: Details::default(),
            metadata: json!({}),
        }
    }

    /// What upstream's router and its answers without a text of their own are made by
    /// (`NewGenericServerResponse`): the details are there, and empty.
    pub fn generic(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let mut status = Self::failure(code, reason, message);
        status.details.empty = true;
        status
    }

    /// A success that has no object to return, as an immediate deletion answers.
    pub fn success(resource: &GroupResource, name: &str, uid: &str) -> Self {
        let mut status = Self::failure(200, "", "");
        "Success".clone_into(&mut status.status);
        status.details = Details { uid: uid.to_owned(), ..Details::of(resource, name) };
        status
    }

    /// A success of a create that makes no object: a binding, an eviction.
    pub fn created() -> Self {
        let mut status = Self::failure(201, "", "");
        "Success".clone_into(&mut status.status);
        status
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        self.details = Details::of(resource, name);
        self
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 401: no credentials, or bad ones.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 403 with upstream's shape: `pods "a" is forbidden: why`.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match name {
            "" => format!("{resource} is forbidden: {why}"),
            name => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::failure(403, "Forbidden", message).about(resource, name)
    }

    /// 404 for an object: `pods "a" not found`.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{resource} {name:?} not found"))
            .about(resource, name)
    }

    /// 404 for a path that names no resource.
    pub fn unknown_resource() -> Self {
        Self::generic(404, "NotFound", "the server could not find the requested resource")
    }

    /// 405: the resource does not do this.
    pub fn method_not_allowed(resource: &GroupResource, action: &str) -> Self {
        let message =
            format!("{action} is not supported on resources of kind {:?}", resource.to_string());
        Self::failure(405, "MethodNotAllowed", message).about(resource, "")
    }

    /// 406: no representation that the client accepts.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message =
            format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(409, "AlreadyExists", format!("{resource} {name:?} already exists"))
            .about(resource, name)
    }

    /// 409: someone else wrote in between, or a precondition failed.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::failure(409, "Conflict", message).about(resource, name)
    }

    /// 409 of optimistic concurrency.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410: the revision is too old to watch from or to continue a list at.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 410 of a watch that asks for history that is gone.
    pub fn too_old(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 413: the body is over the limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, "RequestEntityTooLarge", message)
    }

    /// 415: a body in a media type that is not understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 422: the object does not validate. `kind` is what the client sent.
    pub fn invalid(kind: &GroupVersionKind, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for text in errors.iter().map(ToString::to_string) {
            // Said once; the causes list it as often as it was found.
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let group_kind = match &*kind.group {
            "" => kind.kind.to_string(),
            group => format!("{}.{group}", kind.kind),
        };
        let mut status =
            Self::failure(422, "Invalid", format!("{group_kind} {name:?} is invalid: {list}"));
        status.details = Details {
            name: name.to_owned(),
            group: kind.group.to_string(),
            kind: kind.kind.to_string(),
            causes: errors
                .iter()
                .map(|error| StatusCause {
                    reason: error.cause.reason().to_owned(),
                    message: error.message.clone(),
                    field: error.path.to_string(),
                })
                .collect(),
            ..Details::default()
        };
        status
    }

    /// 429: later, please.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::failure(429, "TooManyRequests", message);
        status.details.retry_after_seconds = Some(retry_after_seconds);
        status
    }

    /// 500: our fault.
    pub fn internal(why: impl fmt::Display) -> Self {
        let mut status =
            Self::failure(500, "InternalError", format!("Internal error occurred: {why}"));
        status.details.causes =
            vec![StatusCause { message: why.to_string(), ..StatusCause::default() }];
        status
    }

    /// 503: not now.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", why)
    }

    /// 504: the deadline passed.
    pub fn timeout(message: impl fmt::Display) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}"))
    }

    /// Whether this is a failure of the given reason.
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// The Status as the JSON that goes over the wire.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": self.metadata, "status": self.status,
        });
        if !self.message.is_empty() {
            value["message"] = json!(self.message);
        }
        if !self.reason.is_empty() {
            value["reason"] = json!(self.reason);
        }
        if !self.details.is_empty() {
            value["details"] = json!(self.details);
        }
        // Of successes those of creates tell their code.
        if self.status == "Failure" || self.code == 201 {
            value["code"] = json!(self.code);
        }
        value
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
