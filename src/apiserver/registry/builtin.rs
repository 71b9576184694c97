//! What sets a few built-in resources apart in the registry. Names, kinds, verbs and subresources
//! are in the schema table; a resource without a row here does what most do.

use super::resource::Traits;

const ORDINARY: Traits = Traits {
    create_on_update: false,
    unconditional_update: true,
    returns_deleted: false,
    no_garbage_collection: false,
    volatile: false,
};
/// A PUT of an unknown name creates it.
const CREATE_ON_UPDATE: Traits = Traits { create_on_update: true, ..ORDINARY };
/// A PUT must say which version it replaces.
const CONDITIONAL: Traits = Traits { unconditional_update: false, ..ORDINARY };
const EVENT: Traits =
    Traits { create_on_update: true, volatile: true, no_garbage_collection: true, ..ORDINARY };

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";

const ROWS: &[(&str, &str, Traits)] = &[
    ("", "endpoints", CREATE_ON_UPDATE),
    ("", "events", EVENT),
    ("", "limitranges", CREATE_ON_UPDATE),
    ("", "services", CREATE_ON_UPDATE),
    (ADMISSION, "mutatingadmissionpolicies", CONDITIONAL),
    (ADMISSION, "mutatingadmissionpolicybindings", CONDITIONAL),
    (ADMISSION, "mutatingwebhookconfigurations", CONDITIONAL),
    (ADMISSION, "validatingadmissionpolicies", CONDITIONAL),
    (ADMISSION, "validatingadmissionpolicybindings", CONDITIONAL),
    (ADMISSION, "validatingwebhookconfigurations", CONDITIONAL),
    ("apiextensions.k8s.io", "customresourcedefinitions", CONDITIONAL),
    ("apiregistration.k8s.io", "apiservices", CONDITIONAL),
    ("certificates.k8s.io", "clustertrustbundles", CONDITIONAL),
    ("certificates.k8s.io", "podcertificaterequests", CONDITIONAL),
    (
        "coordination.k8s.io",
        "leases",
        Traits { create_on_update: true, unconditional_update: false, volatile: true, ..ORDINARY },
    ),
    ("events.k8s.io", "events", EVENT),
    (
        "node.k8s.io",
        "runtimeclasses",
        Traits { create_on_update: true, unconditional_update: false, ..ORDINARY },
    ),
    ("policy", "poddisruptionbudgets", CONDITIONAL),
    (RBAC, "clusterrolebindings", CREATE_ON_UPDATE),
    (RBAC, "clusterroles", CREATE_ON_UPDATE),
    (RBAC, "rolebindings", CREATE_ON_UPDATE),
    (RBAC, "roles", CREATE_ON_UPDATE),
    (STORAGE, "csidrivers", CONDITIONAL),
    (STORAGE, "csinodes", CONDITIONAL),
    (STORAGE, "csistoragecapacities", CONDITIONAL),
    (STORAGE, "volumeattachments", CONDITIONAL),
    ("storagemigration.k8s.io", "storageversionmigrations", CONDITIONAL),
];

/// The traits of a built-in resource.
pub fn traits(group: &str, plural: &str, returns_deleted: bool) -> Traits {
    let row = ROWS.iter().find(|(g, p, _)| (*g, *p) == (group, plural));
    Traits { returns_deleted, ..row.map_or(ORDINARY, |(_, _, traits)| *traits) }
}

#[cfg(test)]
mod tests {
    use apimachinery::schema::builtin_resources;

    use super::*;

    #[test]
    fn every_row_is_a_resource() {
        let all = builtin_resources();
        for (group, plural, _) in ROWS {
            let known = all.iter().any(|r| r.group == *group && r.plural == *plural);
            assert!(known, "{plural}.{group}");
        }
    }
}
