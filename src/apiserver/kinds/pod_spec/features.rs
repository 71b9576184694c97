//! Fields of the API that belong to alpha features: a server without them drops them.

use serde_json::Value;

use crate::kinds::value::{Fields as _, list_mut, remove};

/// Drops the fields of alpha features from a pod spec, as upstream does with its default gates,
/// except where the stored spec has them.
pub(crate) fn drop_disabled(spec: &mut Value, old: Option<&Value>) {
    for field in ["evictionResponders", "schedulingGroup"] {
        if !old.is_some_and(|old| old.has(field)) {
            remove(spec, field);
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list_mut(spec, list) {
            drop_of_container(container);
        }
    }
    for volume in list_mut(spec, "volumes") {
        if let Some(empty_dir) = volume.get_mut("emptyDir") {
            remove(empty_dir, "mode");
        }
        for source in ["secret", "configMap", "downwardAPI", "projected"] {
            if let Some(source) = volume.get_mut(source) {
                drop_users(source);
            }
        }
    }
}

/// [`drop_disabled`] for a workload's template.
pub(crate) fn drop_from_template(workload: &mut Value, old: Option<&Value>) {
    const SPEC: &str = "/spec/template/spec";
    if let Some(spec) = workload.pointer_mut(SPEC) {
        drop_disabled(spec, old.and_then(|old| old.pointer(SPEC)));
    }
}

fn drop_of_container(container: &mut Value) {
    for mount in list_mut(container, "volumeMounts") {
        remove(mount, "bindMountOptions");
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        let signal = remove(lifecycle, "stopSignal");
        for action in ["postStart", "preStop"] {
            if let Some(http) =
                lifecycle.get_mut(action).and_then(|action| action.get_mut("httpGet"))
            {
                remove(http, "protocol");
            }
        }
        if signal.is_some() && lifecycle.as_object().is_some_and(serde_json::Map::is_empty) {
            remove(container, "lifecycle");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe) else { continue };
        if let Some(http) = probe.get_mut("httpGet") {
            remove(http, "protocol");
        }
        if let Some(grpc) = probe.get_mut("grpc") {
            remove(grpc, "mode");
        }
    }
}

/// Owners of projected files (AtomicWriteVolumeUserFields).
fn drop_users(source: &mut Value) {
    remove(source, "defaultUser");
    for item in list_mut(source, "items") {
        remove(item, "user");
    }
    for part in list_mut(source, "sources") {
        let Some(part) = part.as_object_mut() else { continue };
        for (_, projection) in part.iter_mut() {
            remove(projection, "user");
            for item in list_mut(projection, "items") {
                remove(item, "user");
            }
        }
    }
}
