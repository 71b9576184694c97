//! Where containers mount volumes and devices.

use apimachinery::field::Path;
use serde_json::Value;

use super::{Spec, all_containers};
use crate::kinds::{
    validation::{Errors, Report as _, descending_path},
    value::Fields as _,
};

pub(super) fn mounts(spec: &Spec<'_>, container: &Value, path: &Path, errors: &mut Errors) {
    let devices = container.list("volumeDevices");
    let mut seen: Vec<&str> = Vec::new();
    for (at, mount) in container.list("volumeMounts").iter().enumerate() {
        let place = path.index(at);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        }
        if !spec.volumes.iter().any(|(known, _)| *known == name) {
            errors.not_found(&place.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&place.child("mountPath"), "");
        }
        if seen.contains(&target) {
            errors.invalid(&place.child("mountPath"), target, "must be unique");
        }
        seen.push(target);
        if devices.iter().any(|device| device.text("name") == name) {
            errors.invalid(&place.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.text("devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&place.child("mountPath"), target, detail);
        }
        // Upstream's paths of the checks that follow leave out which mount it is.
        let (sub, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        if !sub.is_empty() {
            descending_path(sub, &path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&place.child("subPathExpr"), expression, detail);
            }
            descending_path(expression, &path.child("subPathExpr"), errors);
        }
        propagation(container, mount, path, errors);
    }
}

const PROPAGATIONS: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];

fn propagation(container: &Value, mount: &Value, path: &Path, errors: &mut Errors) {
    let mode = mount.opt_text("mountPropagation");
    if let Some(mode) = mode {
        let path = path.child("mountPropagation");
        if !PROPAGATIONS.contains(&mode) {
            errors.unsupported(&path, mode, &PROPAGATIONS);
        }
        if mode == "Bidirectional" && !container["securityContext"].on("privileged") {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&path, detail);
        }
    }
    let path = path.child("recursiveReadOnly");
    match mount.opt_text("recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.on("readOnly") {
                errors.forbidden(&path, "may only be specified when readOnly is true");
            }
            if mode.is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(&path, detail);
            }
        }
        Some(other) => errors.unsupported(&path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(super) fn devices(spec: &Spec<'_>, container: &Value, path: &Path, errors: &mut Errors) {
    let mounts = container.list("volumeMounts");
    let mut names: Vec<&str> = Vec::new();
    let mut paths: Vec<&str> = Vec::new();
    for (at, device) in container.list("volumeDevices").iter().enumerate() {
        let path = path.index(at);
        let (name_path, device_path) = (path.child("name"), path.child("devicePath"));
        let (name, target) = (device.text("name"), device.text("devicePath"));
        if name.is_empty() {
            errors.required(&name_path, "");
        }
        if names.contains(&name) {
            errors.invalid(&name_path, name, "must be unique");
        }
        match spec.volumes.iter().find(|(known, _)| *known == name) {
            None => errors.not_found(&name_path, name),
            Some((_, volume)) => {
                if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") {
                    let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                    errors.invalid(&name_path, name, detail);
                }
            }
        }
        if target.is_empty() {
            errors.required(&device_path, "");
        }
        if paths.contains(&target) {
            errors.invalid(&device_path, target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            errors.invalid(&device_path, target, "can not contain backsteps ('..')");
        } else {
            paths.push(target);
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            errors.invalid(&name_path, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == target) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.invalid(&device_path, target, detail);
        }
        if !name.is_empty() {
            names.push(name);
        }
    }
}

/// Variables read from files need an emptyDir to find the file in.
pub(super) fn file_key_volumes(spec: &Value, path: &Path, errors: &mut Errors) {
    for (list, at, container) in all_containers(spec) {
        for (index, variable) in container.list("env").iter().enumerate() {
            let Some(file) = variable["valueFrom"].sub("fileKeyRef") else { continue };
            let place = || {
                let variable = path.child(list).index(at).child("env").index(index);
                variable.child("valueFrom").child("fileKeyRef").child("volumeName")
            };
            let name = file.text("volumeName");
            match spec.list("volumes").iter().find(|volume| volume.text("name") == name) {
                None => errors.not_found(&place(), name),
                Some(volume) if !volume.has("emptyDir") => {
                    errors.invalid(&place(), name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    }
}
