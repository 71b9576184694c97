//! The built-in resources: one row each. What a row does not say is what most resources do.

/// A subresource: its name, the group, version and kind it speaks (empty for the resource's own),
/// and its verbs.
#[derive(Clone, Copy, Debug)]
pub struct Sub {
    /// The last step of the path, such as `status`.
    pub name: &'static str,
    /// Group, version and kind; the kind is empty for the resource's own. An empty version is the
    /// resource's own group and version.
    pub kind: (&'static str, &'static str, &'static str),
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}

const fn sub(name: &'static str, verbs: &'static [&'static str]) -> Sub {
    Sub { name, kind: ("", "", ""), verbs }
}

const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const STATUS: Sub = sub("status", GET_PATCH_UPDATE);
const SCALE: Sub =
    Sub { name: "scale", kind: ("autoscaling", "v1", "Scale"), verbs: GET_PATCH_UPDATE };

/// All verbs of an ordinary resource, sorted.
pub const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A built-in resource.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Served versions, the preferred one first, which is also the stored one.
    pub versions: &'static [&'static str],
    /// Plural, as in paths.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Short names of kubectl.
    pub short_names: &'static [&'static str],
    /// Categories of kubectl, such as `all`.
    pub categories: &'static [&'static str],
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
    /// Subresources, sorted by name.
    pub subresources: &'static [Sub],
    /// Whether objects are stored; the others answer a create and are forgotten.
    pub stored: bool,
    /// Whether a PUT of an unknown name creates it.
    pub create_on_update: bool,
    /// Whether a PUT without resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    /// Whether a deletion answers with the object instead of a Status.
    pub returns_deleted: bool,
    /// Whether objects survive a crash only as of the last flush.
    pub volatile: bool,
    /// Whether the garbage collector has nothing to do with it.
    pub no_garbage_collection: bool,
}

const fn row(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    subresources: &'static [Sub],
) -> Row {
    Row {
        group,
        versions: &["v1"],
        plural,
        kind,
        namespaced,
        short_names: &[],
        categories: &[],
        verbs: ALL_VERBS,
        subresources,
        stored: true,
        create_on_update: false,
        unconditional_update: true,
        returns_deleted: false,
        volatile: false,
        no_garbage_collection: false,
    }
}

/// A resource whose objects live in namespaces.
const fn local(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    subresources: &'static [Sub],
) -> Row {
    row(group, plural, kind, true, subresources)
}

/// A cluster-scoped resource.
const fn cluster(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    subresources: &'static [Sub],
) -> Row {
    row(group, plural, kind, false, subresources)
}

impl Row {
    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn extensions(mut self) -> Self {
        self.categories = &["api-extensions"];
        self
    }

    /// Only answered, never stored.
    const fn review(mut self) -> Self {
        self.verbs = CREATE;
        self.stored = false;
        self
    }

    const fn create_on_update(mut self) -> Self {
        self.create_on_update = true;
        self
    }

    const fn conditional(mut self) -> Self {
        self.unconditional_update = false;
        self
    }

    const fn returns_deleted(mut self) -> Self {
        self.returns_deleted = true;
        self
    }

    const fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    const fn no_garbage_collection(mut self) -> Self {
        self.no_garbage_collection = true;
        self
    }

    const fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = verbs;
        self
    }

    const fn versions(mut self, versions: &'static [&'static str]) -> Self {
        self.versions = versions;
        self
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";

const POD: &[Sub] = &[
    Sub { name: "attach", kind: ("", "v1", "PodAttachOptions"), verbs: &["create", "get"] },
    Sub { name: "binding", kind: ("", "v1", "Binding"), verbs: CREATE },
    sub("ephemeralcontainers", GET_PATCH_UPDATE),
    Sub { name: "eviction", kind: ("policy", "v1", "Eviction"), verbs: CREATE },
    Sub { name: "exec", kind: ("", "v1", "PodExecOptions"), verbs: &["create", "get"] },
    sub("log", &["get"]),
    Sub {
        name: "portforward",
        kind: ("", "v1", "PodPortForwardOptions"),
        verbs: &["create", "get"],
    },
    Sub { name: "proxy", kind: ("", "v1", "PodProxyOptions"), verbs: PROXY },
    sub("resize", GET_PATCH_UPDATE),
    STATUS,
];
const NODE: &[Sub] =
    &[Sub { name: "proxy", kind: ("", "v1", "NodeProxyOptions"), verbs: PROXY }, STATUS];
const SERVICE: &[Sub] =
    &[Sub { name: "proxy", kind: ("", "v1", "ServiceProxyOptions"), verbs: PROXY }, STATUS];
const SERVICE_ACCOUNT: &[Sub] =
    &[Sub { name: "token", kind: (AUTHENTICATION, "v1", "TokenRequest"), verbs: CREATE }];

/// Every built-in resource, groups in the order of their priority, which is that of discovery.
pub const ROWS: &[Row] = &[
    local("", "bindings", "Binding", &[]).review(),
    cluster("", "componentstatuses", "ComponentStatus", &[])
        .short(&["cs"])
        .review()
        .verbs(&["get", "list"]),
    local("", "configmaps", "ConfigMap", &[]).short(&["cm"]),
    local("", "endpoints", "Endpoints", &[]).short(&["ep"]).create_on_update(),
    local("", "events", "Event", &[])
        .short(&["ev"])
        .create_on_update()
        .volatile()
        .no_garbage_collection(),
    local("", "limitranges", "LimitRange", &[]).short(&["limits"]).create_on_update(),
    cluster("", "namespaces", "Namespace", &[sub("finalize", &["update"]), STATUS])
        .short(&["ns"])
        .returns_deleted()
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"]),
    cluster("", "nodes", "Node", NODE).short(&["no"]),
    local("", "persistentvolumeclaims", "PersistentVolumeClaim", &[STATUS])
        .short(&["pvc"])
        .returns_deleted(),
    cluster("", "persistentvolumes", "PersistentVolume", &[STATUS])
        .short(&["pv"])
        .returns_deleted(),
    local("", "pods", "Pod", POD).short(&["po"]).all().returns_deleted(),
    local("", "podtemplates", "PodTemplate", &[]).returns_deleted(),
    local("", "replicationcontrollers", "ReplicationController", &[SCALE, STATUS])
        .short(&["rc"])
        .all(),
    local("", "resourcequotas", "ResourceQuota", &[STATUS]).short(&["quota"]).returns_deleted(),
    local("", "secrets", "Secret", &[]),
    local("", "serviceaccounts", "ServiceAccount", SERVICE_ACCOUNT)
        .short(&["sa"])
        .returns_deleted(),
    local("", "services", "Service", SERVICE)
        .short(&["svc"])
        .all()
        .returns_deleted()
        .create_on_update(),
    cluster("apiregistration.k8s.io", "apiservices", "APIService", &[STATUS])
        .extensions()
        .conditional(),
    local("apps", "controllerrevisions", "ControllerRevision", &[]),
    local("apps", "daemonsets", "DaemonSet", &[STATUS]).short(&["ds"]).all(),
    local("apps", "deployments", "Deployment", &[SCALE, STATUS]).short(&["deploy"]).all(),
    local("apps", "replicasets", "ReplicaSet", &[SCALE, STATUS]).short(&["rs"]).all(),
    local("apps", "statefulsets", "StatefulSet", &[SCALE, STATUS]).short(&["sts"]).all(),
    local("events.k8s.io", "events", "Event", &[])
        .short(&["ev"])
        .create_on_update()
        .volatile()
        .no_garbage_collection(),
    cluster(AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", &[]).review(),
    cluster(AUTHENTICATION, "tokenreviews", "TokenReview", &[]).review(),
    local(AUTHORIZATION, "localsubjectaccessreviews", "LocalSubjectAccessReview", &[]).review(),
    cluster(AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", &[]).review(),
    cluster(AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview", &[]).review(),
    cluster(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", &[]).review(),
    local("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", &[STATUS])
        .short(&["hpa"])
        .all()
        .versions(&["v2", "v1"]),
    local("batch", "cronjobs", "CronJob", &[STATUS]).short(&["cj"]).all(),
    local("batch", "jobs", "Job", &[STATUS]).all(),
    cluster(
        CERTIFICATES,
        "certificatesigningrequests",
        "CertificateSigningRequest",
        &[sub("approval", GET_PATCH_UPDATE), STATUS],
    )
    .short(&["csr"]),
    cluster(CERTIFICATES, "clustertrustbundles", "ClusterTrustBundle", &[]).conditional(),
    local(CERTIFICATES, "podcertificaterequests", "PodCertificateRequest", &[STATUS]).conditional(),
    cluster(NETWORKING, "ingressclasses", "IngressClass", &[]),
    local(NETWORKING, "ingresses", "Ingress", &[STATUS]).short(&["ing"]),
    cluster(NETWORKING, "ipaddresses", "IPAddress", &[]).short(&["ip"]),
    local(NETWORKING, "networkpolicies", "NetworkPolicy", &[]).short(&["netpol"]),
    cluster(NETWORKING, "servicecidrs", "ServiceCIDR", &[STATUS]),
    local("policy", "poddisruptionbudgets", "PodDisruptionBudget", &[STATUS])
        .short(&["pdb"])
        .conditional(),
    cluster(RBAC, "clusterrolebindings", "ClusterRoleBinding", &[]).create_on_update(),
    cluster(RBAC, "clusterroles", "ClusterRole", &[]).create_on_update(),
    local(RBAC, "rolebindings", "RoleBinding", &[]).create_on_update(),
    local(RBAC, "roles", "Role", &[]).create_on_update(),
    cluster(STORAGE, "csidrivers", "CSIDriver", &[]).conditional().returns_deleted(),
    cluster(STORAGE, "csinodes", "CSINode", &[STATUS]).conditional().returns_deleted(),
    local(STORAGE, "csistoragecapacities", "CSIStorageCapacity", &[]).conditional(),
    cluster(STORAGE, "storageclasses", "StorageClass", &[]).short(&["sc"]).returns_deleted(),
    cluster(STORAGE, "volumeattachments", "VolumeAttachment", &[STATUS])
        .conditional()
        .returns_deleted(),
    cluster(STORAGE, "volumeattributesclasses", "VolumeAttributesClass", &[])
        .short(&["vac"])
        .returns_deleted(),
    cluster(ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", &[])
        .extensions()
        .conditional(),
    cluster(ADMISSION, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", &[])
        .extensions()
        .conditional(),
    cluster(ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", &[])
        .extensions()
        .conditional(),
    cluster(ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", &[STATUS])
        .extensions()
        .conditional(),
    cluster(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        &[],
    )
    .extensions()
    .conditional(),
    cluster(ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", &[])
        .extensions()
        .conditional(),
    cluster(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &[STATUS],
    )
    .short(&["crd", "crds"])
    .extensions()
    .conditional(),
    cluster("scheduling.k8s.io", "priorityclasses", "PriorityClass", &[]).short(&["pc"]),
    local("coordination.k8s.io", "leases", "Lease", &[])
        .create_on_update()
        .conditional()
        .volatile(),
    cluster("node.k8s.io", "runtimeclasses", "RuntimeClass", &[]).create_on_update().conditional(),
    local("discovery.k8s.io", "endpointslices", "EndpointSlice", &[]),
    cluster(RESOURCE, "deviceclasses", "DeviceClass", &[]).returns_deleted(),
    cluster(RESOURCE, "devicetaintrules", "DeviceTaintRule", &[STATUS]).returns_deleted(),
    local(RESOURCE, "resourceclaims", "ResourceClaim", &[STATUS]).returns_deleted(),
    local(RESOURCE, "resourceclaimtemplates", "ResourceClaimTemplate", &[]).returns_deleted(),
    cluster(RESOURCE, "resourceslices", "ResourceSlice", &[]).returns_deleted(),
    cluster(FLOWCONTROL, "flowschemas", "FlowSchema", &[STATUS]),
    cluster(FLOWCONTROL, "prioritylevelconfigurations", "PriorityLevelConfiguration", &[STATUS]),
    cluster(
        "storagemigration.k8s.io",
        "storageversionmigrations",
        "StorageVersionMigration",
        &[STATUS],
    )
    .conditional(),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_are_well_formed() {
        let names: HashSet<_> = ROWS.iter().map(|row| (row.group, row.plural)).collect();
        assert_eq!(names.len(), ROWS.len(), "every resource once");
        for row in ROWS {
            assert!(row.verbs.is_sorted(), "{}", row.plural);
            assert!(row.subresources.is_sorted_by_key(|sub| sub.name), "{}", row.plural);
            for sub in row.subresources {
                assert!(sub.verbs.is_sorted(), "{}/{}", row.plural, sub.name);
            }
        }
    }
}
