//! The `resize` subresource: requests and limits of running containers.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::{qos_class, update::validate_pod};
use crate::kinds::{
    validation::{Errors, Report as _, spec},
    value::{Fields as _, object_at, same},
};

const ONLY: &str = "only cpu and memory resources are mutable";

/// Only resources and resize policies come from the client. Where containers were added, removed
/// or renamed, nothing is kept, so that validation can say so.
pub(super) fn keep_all_but_resources(old: &Value, new: &mut Value) {
    let (was, is) = (&old["spec"], new["spec"].clone());
    let count = |list: &str| was.list(list).len() == is.list(list).len();
    if !count("containers") || !count("initContainers") {
        return;
    }
    new["spec"] = was.clone();
    new["status"] = old["status"].clone();
    let Some(kept) = object_at(new, "spec") else { return };
    match is.sub("resources") {
        Some(resources) => drop(kept.insert("resources".to_owned(), resources.clone())),
        None => drop(kept.remove("resources")),
    }
    for list in ["containers", "initContainers"] {
        let Some(containers) = kept.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for (container, wanted) in containers.iter_mut().zip(is.list(list)) {
            let Some(container) = container.as_object_mut() else { continue };
            container.insert("name".to_owned(), wanted["name"].clone());
            for field in ["resources", "resizePolicy"] {
                match wanted.sub(field) {
                    Some(value) => drop(container.insert(field.to_owned(), value.clone())),
                    None => drop(container.remove(field)),
                }
            }
        }
    }
}

pub(super) fn validate(old: &Value, new: &Value, errors: &mut Errors) {
    let whole = |errors: &mut Errors, detail: &str| {
        errors.clear();
        errors.push(FieldError::forbidden(&Path::root(""), detail));
    };
    validate_pod(new, errors);
    if old["metadata"]["annotations"].has("kubernetes.io/config.mirror") {
        return whole(errors, "static pods cannot be resized");
    }
    let (was, is) = (&old["spec"], &new["spec"]);
    if was["os"].text("name") == "windows" {
        return whole(errors, "windows pods cannot be resized");
    }
    let class = match old["status"].text("qosClass") {
        "" => qos_class(was),
        class => class,
    };
    if class != qos_class(is) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&spec(), new["status"].text("qosClass"), detail);
    }
    let mut running =
        old["status"].list("containerStatuses").iter().filter(|s| s["state"].has("running"));
    if running.next().is_some_and(|status| !status.has("resources")) {
        errors.forbidden(&spec(), "Pod running on node without support for resize");
    }
    pod_level(was, is, errors);
    if !same_containers(was, is, errors) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (at, (before, after)) in was.list(list).iter().zip(is.list(list)).enumerate() {
            container(list, at, before, after, errors);
        }
    }
    let mut rest = is.clone();
    for field in ["resources", "containers", "initContainers"] {
        rest[field] = was[field].clone();
    }
    if errors.is_empty() && !same(&rest, was) {
        errors.forbidden(&spec(), ONLY);
    }
}

/// Adding, removing, renaming or reordering containers is no resize.
fn same_containers(was: &Value, is: &Value, errors: &mut Errors) -> bool {
    let before = errors.len();
    for list in ["containers", "initContainers"] {
        let (old, new) = (was.list(list), is.list(list));
        let path = spec().child(list);
        if old.len() != new.len() {
            errors.forbidden(&path, &format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (at, (old, new)) in old.iter().zip(new).enumerate() {
            if old.text("name") != new.text("name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&path.index(at).child("name"), &detail);
            }
        }
    }
    errors.len() == before
}

fn container(list: &str, at: usize, before: &Value, after: &Value, errors: &mut Errors) {
    let path = spec().child(list).index(at);
    removed(&before["resources"], &after["resources"], &path.child("resources"), errors);
    let init = list == "initContainers";
    if !same(&strip(before), &strip(after)) {
        if init {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.forbidden(&path, detail);
        } else {
            errors.forbidden(&spec(), ONLY);
        }
    }
    let restarts = |policy: &Value| policy.text("restartPolicy") == "RestartContainer";
    if init
        && after.text("restartPolicy") != "Always"
        && !same(before, after)
        && after.list("resizePolicy").iter().any(restarts)
    {
        let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        errors.forbidden(&path, detail);
    }
}

/// A container without its CPU and memory.
fn strip(container: &Value) -> Value {
    let mut copy = container.clone();
    for list in ["requests", "limits"] {
        if let Some(list) =
            copy.pointer_mut(&format!("/resources/{list}")).and_then(Value::as_object_mut)
        {
            list.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
        }
    }
    copy
}

fn removed(before: &Value, after: &Value, path: &Path, errors: &mut Errors) {
    for list in ["requests", "limits"] {
        if before.entries(list).any(|(name, _)| !after[list].has(name)) {
            let detail = format!("resource {list} cannot be removed");
            errors.forbidden(&path.child(list), &detail);
        }
    }
}

fn pod_level(was: &Value, is: &Value, errors: &mut Errors) {
    let path = spec().child("resources");
    let Some(before) = was.sub("resources") else { return };
    match is.sub("resources") {
        None => errors.forbidden(&path, "pod-level resources cannot be removed"),
        Some(after) => removed(before, after, &path, errors),
    }
}
