//! Defaults of a pod spec that depend on other fields. Constants are in the schema.

use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::image::pull_policy;
use crate::kinds::{
    validation::quantity,
    value::{Fields as _, list_mut, object_at, remove, set_default},
};

/// Defaults of every pod spec.
pub(crate) fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    // `serviceAccount` is the old name of `serviceAccountName`; both say the same.
    let account = match spec.text("serviceAccountName") {
        "" => spec.text("serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if account.is_empty() {
        remove(spec, "serviceAccount");
    } else if let Some(map) = spec.as_object_mut() {
        map.insert("serviceAccountName".to_owned(), account.as_str().into());
        map.insert("serviceAccount".to_owned(), account.into());
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list_mut(spec, list) {
            default_container(container);
        }
    }
    for volume in list_mut(spec, "volumes") {
        default_volume(volume);
    }
    if let Some(overhead) = spec.get_mut("overhead") {
        round_up(overhead);
    }
}

/// Defaults of a pod template's spec.
pub(crate) fn default_template(template: &mut Value) {
    if let Some(spec) = template.get_mut("spec") {
        default_spec(spec);
    }
}

fn default_container(container: &mut Value) {
    let policy = pull_policy(container.text("image"));
    set_default(container, "imagePullPolicy", policy);
    if !container.has("resources") {
        object_at(container, "resources");
    }
    if let Some(resources) = container.get_mut("resources") {
        for list in ["limits", "requests"] {
            if let Some(list) = resources.get_mut(list) {
                round_up(list);
            }
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(grpc) = container.get_mut(field).and_then(|probe| probe.get_mut("grpc")) {
            set_default(grpc, "service", "");
        }
    }
}

/// Amounts finer than a thousandth are rounded up to one, as they always were.
fn round_up(list: &mut Value) {
    let Some(list) = list.as_object_mut() else { return };
    for value in list.values_mut() {
        let amount = quantity(value);
        let rounded = amount.rounded_to(-3);
        if rounded != amount {
            *value = rounded.to_string().into();
        }
    }
}

fn default_volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    let bare = map.iter().all(|(key, value)| key == "name" || value.is_null());
    if bare {
        map.insert("emptyDir".to_owned(), Value::Object(serde_json::Map::new()));
    }
    if let Some(image) = volume.get_mut("image") {
        let policy = pull_policy(image.text("reference"));
        set_default(image, "pullPolicy", policy);
    }
    if let Some(iscsi) = volume.get_mut("iscsi") {
        set_default(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = volume.get_mut("rbd") {
        set_default(rbd, "pool", "rbd");
        set_default(rbd, "user", "admin");
        set_default(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = volume.get_mut("azureDisk") {
        set_default(disk, "cachingMode", "ReadWrite");
        set_default(disk, "kind", "Shared");
        set_default(disk, "fsType", "ext4");
        set_default(disk, "readOnly", false);
    }
    if let Some(scale_io) = volume.get_mut("scaleIO") {
        set_default(scale_io, "storageMode", "ThinProvisioned");
        set_default(scale_io, "fsType", "xfs");
    }
    if let Some(spec) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        set_default(spec, "volumeMode", "Filesystem");
    }
}

/// On the host's network all ports are the host's. Of Pods only.
pub(crate) fn default_host_ports(spec: &mut Value) {
    if !spec.on("hostNetwork") {
        return;
    }
    for list in ["containers", "initContainers"] {
        for container in list_mut(spec, list) {
            for port in list_mut(container, "ports") {
                if port.int("hostPort").unwrap_or_default() == 0 {
                    let own = port["containerPort"].clone();
                    if let Some(port) = port.as_object_mut() {
                        port.insert("hostPort".to_owned(), own);
                    }
                }
            }
        }
    }
}

/// A limit without a request is a request too. Of Pods only: a template keeps what was written.
pub(crate) fn default_requests(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in list_mut(spec, list) {
            if let Some(resources) = container.get_mut("resources") {
                requests_from_limits(resources);
            }
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let limits = match resources.get("limits") {
        Some(Value::Object(limits)) if !limits.is_empty() => limits.clone(),
        _ => return,
    };
    if let Some(requests) = object_at(resources, "requests") {
        for (resource, limit) in limits {
            requests.entry(resource).or_insert(limit);
        }
    }
}

/// Requests and limits of the pod as a whole, from those of its containers (KEP 2837); after
/// admission, when all containers are known.
pub(crate) fn default_pod_level(spec: &mut Value) {
    let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    let Some(resources) = spec.sub("resources") else { return };
    if empty(&resources["limits"]) && empty(&resources["requests"]) {
        return;
    }
    let supported = |name: &str| {
        matches!(name, "cpu" | "memory") || crate::kinds::resource_names::is_huge_page(name)
    };
    let huge = super::totals(spec, "limits");
    let requested = super::totals(spec, "requests");
    let Some(resources) = spec.get_mut("resources") else { return };
    for (name, total) in huge {
        let wanted = crate::kinds::resource_names::is_huge_page(&name);
        if wanted && !resources["requests"].has(&name) && !resources["limits"].has(&name) {
            insert(resources, "limits", &name, total);
        }
    }
    let limits = resources["limits"].clone();
    if empty(&limits) {
        return;
    }
    for (name, total) in requested {
        let flexible = crate::kinds::resource_names::may_overcommit(&name);
        if supported(&name) && flexible && !resources["requests"].has(&name) {
            insert(resources, "requests", &name, total);
        }
    }
    for (name, limit) in limits.as_object().into_iter().flatten() {
        if supported(name) && !resources["requests"].has(name) {
            insert(resources, "requests", name, quantity(limit));
        }
    }
}

fn insert(resources: &mut Value, list: &str, name: &str, amount: Quantity) {
    if let Some(list) = object_at(resources, list) {
        list.insert(name.to_owned(), amount.to_string().into());
    }
}
