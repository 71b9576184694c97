//! All of one kind's own rules: `kinds/<group>/<kind>.rs` holds what a schema cannot say.
//!
//! The registry treats every kind alike; where a kind differs it asks these hooks. A kind without a
//! file of its own has [`Plain`] hooks. Adding a kind's rules is one file and one line in `HOOKS`.

mod addresses;
pub(crate) mod admissionregistration;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
pub(crate) mod columns;
mod component_status;
mod coordination;
pub(crate) mod core;
mod declared;
pub(crate) mod diff;
mod discovery;
mod flowcontrol;
pub(crate) mod metadata;
mod networking;
mod node;
mod pod_spec;
mod policy;
mod rbac;
mod resource;
mod resource_names;
mod scheduling;
mod storage;
mod storagemigration;
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
    /// The API group of the request: Events have two.
    pub group: &'a str,
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

    /// The parts of an object that its cells are made of, as dotted paths in which a list stands for
    /// all its items; none for the whole object. For kinds that are listed by the thousand.
    fn cell_paths(&self) -> &'static [&'static str] {
        &[]
    }

    /// The cells of one object, as many as there are columns.
    fn cells(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// Which file holds the rules of which resource: group, resource, hooks.
static HOOKS: &[(&str, &str, &dyn Hooks)] = &[
    ("", "bindings", &Uncounted),
    ("", "componentstatuses", &component_status::ComponentStatus),
    ("", "configmaps", &core::config_map::ConfigMap),
    ("", "endpoints", &core::endpoints::Endpoints),
    ("", "events", &core::event::Event),
    ("", "limitranges", &core::limit_range::LimitRange),
    ("", "namespaces", &core::namespace::Namespace),
    ("", "nodes", &core::node::Node),
    ("", "persistentvolumeclaims", &core::persistent_volume_claim::PersistentVolumeClaim),
    ("", "persistentvolumes", &core::persistent_volume::PersistentVolume),
    ("", "pods", &core::pod::Pod),
    ("", "podtemplates", &core::pod_template::PodTemplate),
    ("", "replicationcontrollers", &core::replication_controller::ReplicationController),
    ("", "resourcequotas", &core::resource_quota::ResourceQuota),
    ("", "secrets", &core::secret::Secret),
    ("", "serviceaccounts", &core::service_account::ServiceAccount),
    ("", "services", &core::service::Service),
    (ADMISSION, "mutatingadmissionpolicies", &admissionregistration::policies::MUTATING),
    (ADMISSION, "mutatingadmissionpolicybindings", &admissionregistration::bindings::MUTATING),
    (
        ADMISSION,
        "mutatingwebhookconfigurations",
        &admissionregistration::webhooks::WebhookConfiguration { mutating: true },
    ),
    (ADMISSION, "validatingadmissionpolicies", &admissionregistration::policies::VALIDATING),
    (ADMISSION, "validatingadmissionpolicybindings", &admissionregistration::bindings::VALIDATING),
    (
        ADMISSION,
        "validatingwebhookconfigurations",
        &admissionregistration::webhooks::WebhookConfiguration { mutating: false },
    ),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &crate::crd::hooks::CustomResourceDefinition,
    ),
    ("apiregistration.k8s.io", "apiservices", &apiregistration::api_service::ApiService),
    ("apps", "controllerrevisions", &apps::controller_revision::ControllerRevision),
    ("apps", "daemonsets", &apps::daemon_set::DaemonSet),
    ("apps", "deployments", &apps::deployment::Deployment),
    ("apps", "replicasets", &apps::replica_set::ReplicaSet),
    ("apps", "statefulsets", &apps::stateful_set::StatefulSet),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        &autoscaling::horizontal_pod_autoscaler::HorizontalPodAutoscaler,
    ),
    ("batch", "cronjobs", &batch::cron_job::CronJob),
    ("batch", "jobs", &batch::job::Job),
    (
        CERTIFICATES,
        "certificatesigningrequests",
        &certificates::signing_request::CertificateSigningRequest,
    ),
    (CERTIFICATES, "clustertrustbundles", &certificates::cluster_trust_bundle::ClusterTrustBundle),
    (
        CERTIFICATES,
        "podcertificaterequests",
        &certificates::pod_certificate_request::PodCertificateRequest,
    ),
    ("coordination.k8s.io", "leases", &coordination::lease::Lease),
    ("discovery.k8s.io", "endpointslices", &discovery::endpoint_slice::EndpointSlice),
    ("events.k8s.io", "events", &core::event::Event),
    (FLOW, "flowschemas", &flowcontrol::flow_schema::FlowSchema),
    (FLOW, "prioritylevelconfigurations", &flowcontrol::priority_level::PriorityLevel),
    (NETWORKING, "ingressclasses", &networking::ingress_class::IngressClass),
    (NETWORKING, "ingresses", &networking::ingress::Ingress),
    (NETWORKING, "ipaddresses", &networking::ip_address::IpAddress),
    (NETWORKING, "networkpolicies", &networking::network_policy::NetworkPolicy),
    (NETWORKING, "servicecidrs", &networking::service_cidr::ServiceCidr),
    ("node.k8s.io", "runtimeclasses", &node::runtime_class::RuntimeClass),
    ("policy", "poddisruptionbudgets", &policy::pod_disruption_budget::PodDisruptionBudget),
    (RBAC, "clusterrolebindings", &rbac::binding::Binding { namespaced: false }),
    (RBAC, "clusterroles", &rbac::cluster_role::ClusterRole),
    (RBAC, "rolebindings", &rbac::binding::Binding { namespaced: true }),
    (RBAC, "roles", &rbac::role::Role),
    (RESOURCE, "deviceclasses", &resource::device_class::DeviceClass),
    (RESOURCE, "devicetaintrules", &resource::device_taint_rule::DeviceTaintRule),
    (RESOURCE, "resourceclaims", &resource::resource_claim::ResourceClaim),
    (RESOURCE, "resourceclaimtemplates", &resource::resource_claim_template::ResourceClaimTemplate),
    (RESOURCE, "resourceslices", &resource::resource_slice::ResourceSlice),
    ("scheduling.k8s.io", "priorityclasses", &scheduling::priority_class::PriorityClass),
    (STORAGE, "csidrivers", &storage::csi_driver::CsiDriver),
    (STORAGE, "csinodes", &storage::csi_node::CsiNode),
    (STORAGE, "csistoragecapacities", &storage::csi_storage_capacity::CsiStorageCapacity),
    (STORAGE, "storageclasses", &storage::storage_class::StorageClass),
    (STORAGE, "volumeattachments", &storage::volume_attachment::VolumeAttachment),
    (STORAGE, "volumeattributesclasses", &storage::volume_attributes_class::VolumeAttributesClass),
    (
        "storagemigration.k8s.io",
        "storageversionmigrations",
        &storagemigration::storage_version_migration::StorageVersionMigration,
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

/// A kind without rules of its own whose changes are not counted.
struct Uncounted;

impl Hooks for Uncounted {
    fn counts_generations(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_makes_as_many_cells_as_it_has_columns() {
        for (group, resource, hooks) in HOOKS {
            let cells = hooks.cells(&json!({"metadata": {"name": "a"}}));
            assert_eq!(cells.len(), hooks.columns().len(), "{group}/{resource}");
        }
    }

    #[test]
    fn the_table_names_resources_that_are_served() {
        for (group, resource, _) in HOOKS {
            let rows = apimachinery::schema::builtin_resources();
            let served = rows.iter().any(|row| row.group == *group && row.plural == *resource);
            assert!(served, "{group}/{resource}");
        }
    }

    #[test]
    fn defaults_are_idempotent_and_never_fail() {
        for value in
            [json!({}), json!({"spec": {}, "status": {}, "metadata": {}}), json!({"spec": null})]
        {
            for (group, resource, hooks) in HOOKS {
                let mut once = value.clone();
                hooks.default(&mut once);
                let mut twice = once.clone();
                hooks.default(&mut twice);
                assert_eq!(once, twice, "{group}/{resource}");
            }
        }
    }
}
