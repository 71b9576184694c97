//! Admission: what the cluster's own policies change in, or hold against, a write.
//!
//! Plugins run in upstream's order; each is a file here and a line in [`PLUGINS`]. They see objects
//! of the storage version as JSON values.

use apimachinery::{GroupResource, GroupVersionKind, Status};
use serde_json::Value;

use crate::{
    Shared,
    request::{RequestInfo, UserInfo},
};

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a new subresource object (a binding, an eviction, a token request).
    Create,
    /// A changed object; the operation of updates, patches and applies.
    Update,
    /// A deletion; there is no new object.
    Delete,
    /// A connection to a subresource: exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// The name that webhooks see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The facts of a write. Upstream's `admission.Attributes`.
pub struct AdmissionRequest<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// Which resource, subresource, namespace and name. For a creation by generateName the name
    /// is empty.
    pub info: &'a RequestInfo,
    /// What is done.
    pub operation: Operation,
    /// Kind of the object: of the subresource's object where that has its own.
    pub kind: &'a GroupVersionKind,
    /// The stored object, on update and delete.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions as sent; null for none.
    pub options: &'a Value,
}

impl AdmissionRequest<'_> {
    /// Whether the request is about this resource (subresources included).
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.info.group == group && self.info.resource == resource
    }

    /// The resource.
    pub fn resource(&self) -> GroupResource {
        GroupResource::new(&self.info.group, &self.info.resource)
    }
}

/// Runs the mutating plugins on `object` (null for a deletion or a connection without options).
/// Returns warnings for the client.
///
/// # Errors
/// The Status to answer when a plugin refuses.
pub async fn mutate(
    _server: &Shared,
    _request: &AdmissionRequest<'_>,
    _object: &mut Value,
) -> Result<Vec<String>, Status> {
    Ok(Vec::new())
}

/// Runs the validating plugins on the final object. Returns warnings for the client.
///
/// # Errors
/// The Status to answer when a plugin refuses.
pub async fn validate(
    _server: &Shared,
    _request: &AdmissionRequest<'_>,
    _object: &Value,
) -> Result<Vec<String>, Status> {
    Ok(Vec::new())
}
