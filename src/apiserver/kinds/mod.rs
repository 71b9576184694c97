//! All of one kind's own rules: `kinds/<group>/<kind>.rs` holds what a schema cannot say.
//!
//! The registry treats every kind alike; where a kind differs it asks these hooks. A kind without a
//! file of its own has [`Plain`] hooks. Adding a kind's rules is one file and one line in `HOOKS`.

mod addresses;
mod apps;
mod certificates;
pub(crate) mod columns;
mod core;
pub(crate) mod diff;
pub(crate) mod metadata;
mod pod_spec;
mod resource_names;
pub(crate) mod validation;
pub(crate) mod value;

use apimachinery::{GroupResource, Status, field::FieldError, names};
use serde_json::Value;

pub(crate) use self::core::{
    namespace::is_terminating as namespace_is_terminating, persistent_volume_claim::storage_class,
};
use crate::request::UserInfo;

/// What a hook may know beside the object itself.
pub struct Context<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// The subresource written through, empty for the object itself.
    pub subresource: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// State shared by all requests: reads of the store, address and port allocators.
    pub server: &'a crate::Shared,
}

/// A column of `kubectl get`, as `meta.k8s.io/v1` Table describes it.
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the column that holds the name, else empty.
    pub format: &'static str,
    /// Shown at this level and above: 0 always, 1 with `-o wide`.
    pub priority: u8,
    /// Text for people.
    pub description: &'static str,
}

/// A kind's own rules. Every method has the behaviour of a plain kind as its default.
///
/// Objects are canonical JSON values of the storage version, pruned, type-checked and defaulted by
/// the schema engine. On create and update, in order: `default`, mutating admission, `prepare_*`,
/// `allocate`, `validate_*`, validating admission, commit.
pub trait Hooks: Send + Sync {
    /// Defaults that depend on other fields; idempotent. Runs on objects read from the wire.
    fn default(&self, _object: &mut Value) {}

    /// Before create: drop what a client may not set (the registry itself drops `status` where
    /// there is a status subresource, and sets generation 1 where the kind counts generations).
    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Value) {}

    /// Before update: keep what a client may not change. The registry itself keeps `status` on a
    /// write of the object and everything but `status` on a write of the status.
    fn prepare_update(&self, _context: &Context<'_>, _old: &Value, _new: &mut Value) {}

    /// Takes what must be unique in the cluster (service addresses, node ports). Undone by
    /// [`Hooks::release`] when the write fails afterwards or the object is gone.
    fn allocate(
        &self,
        _context: &Context<'_>,
        _old: Option<&Value>,
        _new: &mut Value,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Gives back what `object` holds and `kept` (its successor, if any) does not.
    fn release(&self, _context: &Context<'_>, _object: &Value, _kept: Option<&Value>) {}

    /// Validates a new object. Metadata is validated by the registry.
    fn validate_create(&self, _context: &Context<'_>, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Validates a change; `context.subresource` tells which part was written.
    fn validate_update(
        &self,
        _context: &Context<'_>,
        _old: &Value,
        _new: &Value,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// Warnings for the client about a new object, or about a change to one (`old`).
    fn warnings(&self, _old: Option<&Value>, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Whether `name` is a valid `metadata.name`; what is wrong with it otherwise.
    /// `prefix` is set for a `generateName`.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_dns_subdomain(name, prefix)
    }

    /// Whether `metadata.generation` counts changes of everything but metadata and status.
    fn counts_generations(&self) -> bool {
        true
    }

    /// Whether a client may give the status of a new object, as a kubelet does with its Node.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Seconds of graceful deletion: `None` deletes at once, as most kinds do. `asked` is the
    /// client's `gracePeriodSeconds`.
    fn grace_period(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Selectable fields beyond `metadata.name` and `metadata.namespace`, as dotted paths.
    fn fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Columns of `kubectl get`; empty for name and age alone.
    fn columns(&self) -> &'static [Column] {
        &[]
    }

    /// The cells of one object, as many as there are columns.
    fn cells(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }
}

/// Which file holds the rules of which resource: group, resource, hooks.
static HOOKS: &[(&str, &str, &dyn Hooks)] = &[
    ("", "namespaces", &core::namespace::Namespace),
    ("", "persistentvolumeclaims", &core::persistent_volume_claim::PersistentVolumeClaim),
    ("", "pods", &core::pod::Pod),
    ("", "secrets", &core::secret::Secret),
    ("", "services", &core::service::Service),
    ("apps", "controllerrevisions", &apps::controller_revision::ControllerRevision),
    ("apps", "daemonsets", &apps::daemon_set::DaemonSet),
    ("apps", "deployments", &apps::deployment::Deployment),
    ("apps", "replicasets", &apps::replica_set::ReplicaSet),
    ("apps", "statefulsets", &apps::stateful_set::StatefulSet),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &crate::crd::hooks::CustomResourceDefinition,
    ),
];

/// The hooks of a resource; [`Plain`] for those without a line in the table. Callers keep the
/// answer with the resource instead of asking on every request.
pub fn hooks(resource: &GroupResource) -> &'static dyn Hooks {
    HOOKS
        .iter()
        .find(|(group, name, _)| *group == &*resource.group && *name == &*resource.resource)
        .map_or(&Plain, |(_, _, hooks)| *hooks)
}

/// A kind without rules of its own.
pub struct Plain;

impl Hooks for Plain {}
