//! The types of `request` and `namespaceObject`.

use std::sync::OnceLock;

use cel::Type;

use super::Record;

fn texts() -> Type {
    Type::list(Type::String)
}

/// The request.
pub(super) fn request() -> Type {
    static OF: OnceLock<Type> = OnceLock::new();
    let make = || {
        let kind = Record::of(
            "kubernetes.GroupVersionKind",
            [("group", Type::String), ("version", Type::String), ("kind", Type::String)],
        );
        let resource = Record::of(
            "kubernetes.GroupVersionResource",
            [("group", Type::String), ("version", Type::String), ("resource", Type::String)],
        );
        let user = Record::of(
            "kubernetes.UserInfo",
            [
                ("username", Type::String),
                ("uid", Type::String),
                ("groups", texts()),
                ("extra", Type::map(Type::String, texts())),
            ],
        );
        Record::of(
            "kubernetes.AdmissionRequest",
            [
                ("kind", kind.clone()),
                ("resource", resource.clone()),
                ("subResource", Type::String),
                ("requestKind", kind),
                ("requestResource", resource),
                ("requestSubResource", Type::String),
                ("name", Type::String),
                ("namespace", Type::String),
                ("operation", Type::String),
                ("userInfo", user),
                ("dryRun", Type::Bool),
                ("options", Type::Dyn),
            ],
        )
    };
    OF.get_or_init(make).clone()
}

/// The namespace of the object.
pub(super) fn namespace() -> Type {
    static OF: OnceLock<Type> = OnceLock::new();
    let make = || {
        let condition = Record::of(
            "kubernetes.NamespaceCondition",
            [
                ("status", Type::String),
                ("type", Type::String),
                ("lastTransitionTime", Type::Timestamp),
                ("message", Type::String),
                ("reason", Type::String),
            ],
        );
        let metadata = Record::of(
            "kubernetes.NamespaceMetadata",
            [
                ("name", Type::String),
                ("generateName", Type::String),
                ("namespace", Type::String),
                ("labels", Type::map(Type::String, Type::String)),
                ("annotations", Type::map(Type::String, Type::String)),
                ("UID", Type::String),
                ("creationTimestamp", Type::Timestamp),
                ("deletionGracePeriodSeconds", Type::Int),
                ("deletionTimestamp", Type::Timestamp),
                ("generation", Type::Int),
                ("resourceVersion", Type::String),
                ("finalizers", texts()),
            ],
        );
        let spec = Record::of("kubernetes.NamespaceSpec", [("finalizers", texts())]);
        let status = Record::of(
            "kubernetes.NamespaceStatus",
            [("conditions", Type::list(condition)), ("phase", Type::String)],
        );
        Record::of(
            "kubernetes.Namespace",
            [("metadata", metadata), ("spec", spec), ("status", status)],
        )
    };
    OF.get_or_init(make).clone()
}
