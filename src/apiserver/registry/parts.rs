//! Which part of an object a subresource writes: the rest stays as it is stored.

use serde_json::{Map, Value};

use crate::registry::resource::Resource;

/// Makes everything in `new` that a write through `subresource` may not touch equal to `old`.
pub fn keep(resource: &Resource, subresource: &str, old: &Value, new: &mut Value) {
    match subresource {
        "" if has_status(resource) => copy(old, new, "status"),
        "" => {}
        "status" => keep_all_but(resource, "status", old, new),
        "finalize" => {
            keep_all_but(resource, "spec", old, new);
            let finalizers = new["spec"].get("finalizers").cloned();
            copy(old, new, "spec");
            set(new, "spec", "finalizers", finalizers);
        }
        "approval" => {
            keep_all_but(resource, "status", old, new);
            let conditions = new["status"].get("conditions").cloned();
            copy(old, new, "status");
            set(new, "status", "conditions", conditions);
        }
        "ephemeralcontainers" => {
            let containers = new["spec"].get("ephemeralContainers").cloned();
            keep_all_but(resource, "", old, new);
            keep_metadata(old, new);
            set(new, "spec", "ephemeralContainers", containers);
        }
        "resize" => {
            let wanted = new["spec"].take();
            keep_all_but(resource, "", old, new);
            keep_metadata(old, new);
            for list in ["containers", "initContainers"] {
                resize(&wanted[list], &mut new["spec"][list]);
            }
        }
        _ => {}
    }
}

/// Takes over what a resize may change of each container, matched by name.
fn resize(wanted: &Value, containers: &mut Value) {
    let (Some(wanted), Some(containers)) = (wanted.as_array(), containers.as_array_mut()) else {
        return;
    };
    for container in containers {
        let found = wanted.iter().find(|other| other["name"] == container["name"]);
        let Some(found) = found else { continue };
        for field in ["resources", "resizePolicy"] {
            copy(found, container, field);
        }
    }
}

fn has_status(resource: &Resource) -> bool {
    resource.versions.iter().any(|version| version.subresource("status").is_some())
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    let Some(to) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => {
            to.insert(field.to_owned(), value.clone());
        }
        None => {
            to.remove(field);
        }
    }
}

fn set(object: &mut Value, parent: &str, field: &str, value: Option<Value>) {
    let Some(object) = object.as_object_mut() else { return };
    match value {
        Some(value) => {
            let parent = object.entry(parent).or_insert_with(|| Value::Object(Map::new()));
            if let Some(parent) = parent.as_object_mut() {
                parent.insert(field.to_owned(), value);
            }
        }
        None => {
            if let Some(parent) = object.get_mut(parent).and_then(Value::as_object_mut) {
                parent.remove(field);
            }
        }
    }
}

/// Keeps all top-level fields but `part`. Metadata may change with the status of a built-in kind
/// (annotations and labels do, as clients expect), but not with that of a custom one.
fn keep_all_but(resource: &Resource, part: &str, old: &Value, new: &mut Value) {
    let Some(fields) = new.as_object() else { return };
    let names: Vec<String> = fields
        .keys()
        .chain(old.as_object().into_iter().flat_map(Map::keys))
        .filter(|name| *name != part && *name != "metadata")
        .cloned()
        .collect();
    for name in names {
        copy(old, new, &name);
    }
    if resource.is_custom() {
        keep_metadata(old, new);
    }
}

/// Keeps what users write into the metadata.
fn keep_metadata(old: &Value, new: &mut Value) {
    let managed = new["metadata"].get("managedFields").cloned();
    let version = new["metadata"].get("resourceVersion").cloned();
    copy(old, new, "metadata");
    set(new, "metadata", "managedFields", managed);
    set(new, "metadata", "resourceVersion", version);
}

/// Whether a write changes what `metadata.generation` counts: everything but metadata, and but the
/// status where that has a subresource of its own.
pub fn generation_moves(resource: &Resource, subresource: &str, old: &Value, new: &Value) -> bool {
    if matches!(subresource, "status" | "approval") {
        return false;
    }
    let skip_status = has_status(resource) || !resource.is_custom();
    let differs = |a: &Value, b: &Value| {
        a.as_object().into_iter().flatten().any(|(name, value)| {
            let counted = name != "metadata" && !(skip_status && name == "status");
            counted && b.get(name) != Some(value)
        })
    };
    differs(old, new) || differs(new, old)
}
