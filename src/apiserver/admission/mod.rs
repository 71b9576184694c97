//! Admission: what the cluster's own policies change in, or hold against, a write.
//!
//! Plugins run in upstream's order; each is a file here and a line in [`PLUGINS`]. They see objects
//! of the storage version as JSON values.

mod certificates;
mod default_ingress_class;
mod default_storage_class;
mod default_tolerations;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod pod_resize;
mod pod_security;
mod pod_topology_labels;
mod policies;
mod priority;
mod resource_quota;
mod rounds;
mod runtime_class;
mod service_account;
mod storage_object_in_use;
mod taint_nodes;
mod volume_resize;
mod webhooks;

use apimachinery::{GroupResource, GroupVersionKind, Object, Status};
use async_trait::async_trait;
use rounds::Rounds;
use serde_json::Value;
use storage::Snapshot;

use crate::{
    Shared,
    expressions::revisions::Revisions,
    registry::Warnings,
    request::{RequestInfo, UserInfo},
};

/// What is made of the objects that configure admission, once a revision.
#[derive(Default)]
pub struct Compiled {
    mutating_webhooks: Revisions<Vec<webhooks::Hook>>,
    validating_webhooks: Revisions<Vec<webhooks::Hook>>,
    mutating_policies: Revisions<policies::mutating::Policy>,
    mutating_bindings: Revisions<policies::Binding>,
    validating_policies: Revisions<policies::validating::Policy>,
    validating_bindings: Revisions<policies::Binding>,
}

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

    /// Whether the request is about objects of this resource, not about a subresource.
    pub fn is_object(&self, group: &str, resource: &str) -> bool {
        self.is(group, resource) && self.info.subresource.is_empty()
    }

    /// The resource.
    pub fn resource(&self) -> GroupResource {
        GroupResource::new(&self.info.group, &self.info.resource)
    }

    fn creates(&self) -> bool {
        self.operation == Operation::Create
    }

    fn updates(&self) -> bool {
        self.operation == Operation::Update
    }

    /// The stored object; null where there is none.
    fn old(&self) -> &Value {
        self.old.unwrap_or(&Value::Null)
    }

    /// The 403 of a plugin. `object` names what is refused where the path does not.
    fn forbidden(&self, object: &Value, why: &str) -> Status {
        let metadata = &object["metadata"];
        let name =
            [self.info.name.as_str(), text(metadata, "name"), text(metadata, "generateName")]
                .into_iter()
                .find(|name| !name.is_empty());
        Status::forbidden(&self.resource(), name.unwrap_or("Unknown"), why)
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What a plugin is given beside the object.
struct Call<'a> {
    server: &'a Shared,
    request: &'a AdmissionRequest<'a>,
    warnings: &'a Warnings,
    rounds: &'a rounds::Rounds,
}

impl Call<'_> {
    /// The stored objects of a resource.
    fn list(&self, group: &str, resource: &str) -> Option<Snapshot> {
        Some(self.server.collection(group, resource)?.snapshot())
    }

    /// One stored object.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.server.get(group, resource, namespace, name).and_then(|object| value(&object))
    }

    /// Whether the user may `verb` the named object of `group` and `resource`, which need not exist.
    fn may(&self, verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let info = RequestInfo {
            verb: verb.to_owned(),
            is_resource: true,
            group: group.to_owned(),
            version: "*".to_owned(),
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        self.server.authorizer.authorize(self.request.user, &info).allowed
    }
}

/// The value of a stored object, which is JSON.
fn value(object: &Object) -> Option<Value> {
    object.value().ok()
}

/// One policy.
#[async_trait]
trait Plugin: Send + Sync {
    /// Whether the plugin has anything to do with the request.
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool;

    /// Changes the object, or refuses.
    async fn mutate(&self, _call: &Call<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the final object, or lets it pass.
    async fn validate(&self, _call: &Call<'_>, _object: &Value) -> Result<(), Status> {
        Ok(())
    }
}

/// The plugins in upstream's order (`pkg/kubeapiserver/options/plugins.go`): those that it has on by
/// default, and NodeRestriction, which every installer turns on.
static PLUGINS: &[&dyn Plugin] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &limit_ranger::LimitRanger,
    &service_account::ServiceAccount,
    &node_restriction::NodeRestriction,
    &taint_nodes::TaintNodesByCondition,
    &pod_security::PodSecurity,
    &priority::Priority,
    &default_tolerations::DefaultTolerationSeconds,
    &default_storage_class::DefaultStorageClass,
    &storage_object_in_use::StorageObjectInUseProtection,
    &volume_resize::PersistentVolumeClaimResize,
    &runtime_class::RuntimeClass,
    &certificates::CertificateApproval,
    &certificates::CertificateSigning,
    &certificates::ClusterTrustBundleAttest,
    &certificates::CertificateSubjectRestriction,
    &default_ingress_class::DefaultIngressClass,
    &pod_topology_labels::PodTopologyLabels,
    &pod_resize::PodResizeValidator,
    &policies::mutating::MutatingPolicies,
    &webhooks::MutatingWebhooks,
    &policies::validating::ValidatingPolicies,
    &webhooks::ValidatingWebhooks,
    &resource_quota::ResourceQuota,
];

/// Runs the mutating plugins on `object`, again where webhooks or policies changed it (null for a deletion or a connection without options).
/// Returns warnings for the client.
///
/// # Errors
/// The Status to answer when a plugin refuses.
pub async fn mutate(
    server: &Shared,
    request: &AdmissionRequest<'_>,
    object: &mut Value,
) -> Result<Vec<String>, Status> {
    let warnings = Warnings::default();
    let mut round = Some(Rounds::default());
    while let Some(rounds) = round {
        let call = Call { server, request, warnings: &warnings, rounds: &rounds };
        for plugin in PLUGINS.iter().filter(|plugin| plugin.handles(request)) {
            plugin.mutate(&call, object).await?;
        }
        round = rounds.next();
    }
    Ok(warnings.take())
}

/// Runs the validating plugins on the final object. Returns warnings for the client.
///
/// # Errors
/// The Status to answer when a plugin refuses.
pub async fn validate(
    server: &Shared,
    request: &AdmissionRequest<'_>,
    object: &Value,
) -> Result<Vec<String>, Status> {
    if matches!(request.operation, Operation::Create | Operation::Update) {
        // Upstream's storage of roles does this before any plugin.
        server.authorizer.check_escalation(request.user, request.info, request.old, object)?;
    }
    let warnings = Warnings::default();
    let call = Call { server, request, warnings: &warnings, rounds: &Rounds::default() };
    for plugin in PLUGINS.iter().filter(|plugin| plugin.handles(request)) {
        plugin.validate(&call, object).await?;
    }
    Ok(warnings.take())
}
