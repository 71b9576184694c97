//! OpenAPI documents: v3 for each group version (kubectl apply, diff, explain and edit ask for
//! those), v2 for everything at once, also in the protobuf form that client-side apply asks for.
//!
//! Built-in kinds and custom resources go the same way: a [`Kind`] has a resource and a definition.
//! Documents are rendered when asked for, as text, type by type, so that no tree of a whole
//! document is ever in memory; whoever serves them keeps them compressed or not at all.

mod components;
mod custom;
mod gnostic;
mod paths;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

use serde_json::Value;
use sha2::{Digest, Sha512};

use crate::{resource::join_api_version, schema::Resource};

pub use v2::{document as v2, protobuf as v2_protobuf};
pub use v3::document as v3;

/// Media type of [`v2_protobuf`].
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// A kind as OpenAPI shows it.
pub struct Kind<'a> {
    /// Its resource.
    pub resource: &'a Resource,
    /// The `openAPIV3Schema` of a custom resource; None for kinds that are built in.
    pub custom: Option<&'a Value>,
}

/// Which of the two dialects a schema is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        let prefix = match self {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        serde_json::json!({"$ref": format!("{prefix}{name}")})
    }
}

/// The index of the v3 documents (`/openapi/v3`): where each group version's is, and the hash by
/// which clients tell whether they know it. `hash` is [`hash`] of what the document is made from.
pub fn v3_index<'a>(group_versions: impl Iterator<Item = (&'a str, &'a str, String)>) -> Value {
    let paths = group_versions.map(|(group, version, hash)| {
        let path = v3_path(group, version);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path, serde_json::json!({"serverRelativeURL": url}))
    });
    serde_json::json!({"paths": Value::Object(paths.collect())})
}

/// Where the document of a group version is below `/openapi/v3/`: `api/v1` or `apis/apps/v1`.
pub fn v3_path(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", join_api_version(group, version))
}

/// A hash of what a document is made from, which is quicker than rendering it: the release, the
/// resources, and the schemas of custom ones.
pub fn hash(kinds: &[Kind<'_>]) -> String {
    let mut hash = Sha512::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    for kind in kinds {
        hash.update(format!("{:?}", kind.resource));
        if let Some(schema) = kind.custom {
            hash.update(schema.to_string());
        }
    }
    let hash = hash.finalize();
    hash.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The name of a kind's definition: `io.k8s.api.core.v1.Pod`, or for custom resources their group
/// backwards, `com.example.v1.CronTab`.
fn definition_name(kind: &Kind<'_>, name: &str) -> String {
    let r = kind.resource;
    if kind.custom.is_none()
        && let Some(schema) = crate::schema::builtin(&r.group, &r.version, name)
        && let Some(name) = schema.type_name()
    {
        return name.to_owned();
    }
    let mut labels: Vec<&str> = r.group.split('.').rev().collect();
    labels.extend([r.version.as_str(), name]);
    labels.join(".")
}
