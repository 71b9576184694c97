//! Who asks for what: the facts of a request that authentication, authorization, admission and
//! audit share. Upstream's `user.Info` and `authorizer.Attributes`.

use std::collections::BTreeMap;

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// Name, such as `system:node:one` or `system:serviceaccount:ns:name`.
    pub name: String,
    /// UID, where the authenticator knows one (service account tokens).
    pub uid: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` included.
    pub groups: Vec<String>,
    /// Further facts, such as the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A component inside this process, which needs no credentials to be known.
    pub fn component(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().copied().chain(["system:authenticated"]);
        Self {
            name: name.to_owned(),
            groups: groups.map(ToOwned::to_owned).collect(),
            ..Self::default()
        }
    }

    /// Whether the user is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}

/// What a request does, read off its method and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the
    /// lower-case method where the path names no resource.
    pub verb: String,
    /// Whether the path names a resource (`/api/v1/...`, `/apis/group/version/...`).
    pub is_resource: bool,
    /// The whole path, for non-resource rules.
    pub path: String,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty when cluster-scoped or over all namespaces.
    pub namespace: String,
    /// Resource (plural).
    pub resource: String,
    /// Subresource, such as `status`, `log`, `exec`.
    pub subresource: String,
    /// Name of the object, empty for collections.
    pub name: String,
    /// The `labelSelector` and `fieldSelector` of a collection request, as sent.
    pub selectors: (Option<String>, Option<String>),
}
