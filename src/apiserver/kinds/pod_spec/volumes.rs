//! Volumes of a pod.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::{env, legacy_volumes, projected};
use crate::kinds::{
    core::persistent_volume_claim,
    validation::{
        Check, Errors, FILE_MODE, Report as _, dns_label, file_mode, local_path, no_backsteps,
        one_of, quantity,
    },
    value::Fields as _,
};

/// Volume sources in the order in which upstream looks at them, each with its check.
const SOURCES: [(&str, Check); 30] = [
    ("emptyDir", empty_dir),
    ("hostPath", host_path),
    ("gitRepo", legacy_volumes::git_repo),
    ("gcePersistentDisk", legacy_volumes::gce_disk),
    ("awsElasticBlockStore", legacy_volumes::aws_disk),
    ("secret", secret),
    ("nfs", nfs),
    ("iscsi", legacy_volumes::iscsi),
    ("glusterfs", legacy_volumes::glusterfs),
    ("flocker", legacy_volumes::flocker),
    ("persistentVolumeClaim", claim),
    ("rbd", legacy_volumes::rbd),
    ("cinder", legacy_volumes::cinder),
    ("cephfs", legacy_volumes::cephfs),
    ("quobyte", legacy_volumes::quobyte),
    ("downwardAPI", downward_api),
    ("fc", legacy_volumes::fibre_channel),
    ("flexVolume", legacy_volumes::flex),
    ("configMap", config_map),
    ("azureFile", legacy_volumes::azure_file),
    ("vsphereVolume", legacy_volumes::vsphere),
    ("photonPersistentDisk", legacy_volumes::photon),
    ("portworxVolume", legacy_volumes::portworx),
    ("azureDisk", legacy_volumes::azure_disk),
    ("storageos", legacy_volumes::storageos),
    ("projected", projected::validate),
    ("scaleIO", legacy_volumes::scale_io),
    ("csi", csi),
    ("ephemeral", ephemeral),
    ("image", image),
];

/// Validates the volumes; returns those without a fault.
pub(super) fn validate<'a>(
    spec: &'a Value,
    meta: Option<&Value>,
    path: &Path,
    errors: &mut Errors,
) -> Vec<(&'a str, &'a Value)> {
    let all = spec.list("volumes");
    let pod = meta.map(|meta| meta.text("name")).filter(|name| !name.is_empty());
    let mut good: Vec<(&str, &Value)> = Vec::with_capacity(all.len());
    for (at, volume) in all.iter().enumerate() {
        let path = path.index(at);
        let before = errors.len();
        source(volume, &path, errors);
        let name = volume.text("name");
        if legacy_volumes::iscsi_name_too_long(&volume["iscsi"], name) {
            errors.invalid(&path.child("name"), name, legacy_volumes::ISCSI_NAME);
        }
        if let Some(pod) = pod.filter(|_| volume.has("ephemeral") && !name.is_empty()) {
            let claim = format!("{pod}-{name}");
            for message in names::dns1123_subdomain(&claim) {
                let detail = format!("PVC name {claim:?}: {message}");
                errors.invalid(&path.child("name"), name, &detail);
            }
        }
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            dns_label(name, &path.child("name"), errors);
        }
        if good.iter().any(|(known, _)| *known == name) {
            errors.duplicate(&path.child("name"), name);
        }
        if errors.len() == before {
            good.push((name, volume));
        }
        let claim = volume["persistentVolumeClaim"].text("claimName");
        let own = |pod: &str| {
            all.iter().any(|v| v.has("ephemeral") && claim == format!("{pod}-{}", v.text("name")))
        };
        if !claim.is_empty() && pod.is_some_and(own) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            let path = path.child("persistentVolumeClaim").child("claimName");
            errors.invalid(&path, claim, detail);
        }
    }
    good
}

fn source(volume: &Value, path: &Path, errors: &mut Errors) {
    let mut found = false;
    for (field, check) in SOURCES {
        let Some(source) = volume.sub(field) else { continue };
        if found {
            errors.forbidden(&path.child(field), "may not specify more than 1 volume type");
        } else {
            found = true;
            // The one source that upstream calls otherwise in the paths of what is wrong in it.
            let field = if field == "gcePersistentDisk" { "persistentDisk" } else { field };
            check(source, &path.child(field), errors);
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn empty_dir(source: &Value, path: &Path, errors: &mut Errors) {
    if source.sub("sizeLimit").is_some_and(|limit| quantity(limit).signum() < 0) {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.forbidden(&path.child("sizeLimit"), detail);
    }
}

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

pub(crate) fn host_path(source: &Value, path: &Path, errors: &mut Errors) {
    let place = source.text("path");
    if place.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    no_backsteps(place, &path.child("path"), errors);
    if let Some(kind) = source.opt_text("type").filter(|kind| !HOST_PATH_TYPES.contains(kind)) {
        errors.unsupported(&path.child("type"), kind, &HOST_PATH_TYPES);
    }
}

fn secret(source: &Value, path: &Path, errors: &mut Errors) {
    if source.text("secretName").is_empty() {
        errors.required(&path.child("secretName"), "");
    }
    file_mode(source, "defaultMode", path, errors);
    items(source, path, errors);
}

fn config_map(source: &Value, path: &Path, errors: &mut Errors) {
    if source.text("name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    file_mode(source, "defaultMode", path, errors);
    items(source, path, errors);
}

/// Keys to project, and to which paths.
pub(super) fn items(source: &Value, path: &Path, errors: &mut Errors) {
    for (at, item) in source.list("items").iter().enumerate() {
        let path = path.child("items").index(at);
        if item.text("key").is_empty() {
            errors.required(&path.child("key"), "");
        }
        let place = item.text("path");
        if place.is_empty() {
            errors.required(&path.child("path"), "");
        }
        local_path(place, &path.child("path"), errors);
        if let Some(mode) = item.int("mode").filter(|mode| !(0..=0o777).contains(mode)) {
            errors.invalid(&path.child("mode"), mode, FILE_MODE);
        }
    }
}

fn claim(source: &Value, path: &Path, errors: &mut Errors) {
    if source.text("claimName").is_empty() {
        errors.required(&path.child("claimName"), "");
    }
}

pub(crate) fn nfs(source: &Value, path: &Path, errors: &mut Errors) {
    if source.text("server").is_empty() {
        errors.required(&path.child("server"), "");
    }
    let place = source.text("path");
    if place.is_empty() {
        errors.required(&path.child("path"), "");
    }
    if !place.starts_with('/') {
        errors.invalid(&path.child("path"), place, "must be an absolute path");
    }
}

fn downward_api(source: &Value, path: &Path, errors: &mut Errors) {
    file_mode(source, "defaultMode", path, errors);
    for file in source.list("items") {
        downward_file(file, path, errors);
    }
}

/// A file of the downward API; upstream's paths leave out which item it is.
pub(super) fn downward_file(file: &Value, path: &Path, errors: &mut Errors) {
    let place = file.text("path");
    if place.is_empty() {
        errors.required(&path.child("path"), "");
    }
    local_path(place, &path.child("path"), errors);
    match (file.sub("fieldRef"), file.sub("resourceFieldRef")) {
        (Some(field), resource) => {
            env::field_ref(field, &env::FILE_FIELDS, &path.child("fieldRef"), errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(path, "resource", detail);
            }
        }
        (None, Some(resource)) => {
            env::resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    file_mode(file, "mode", path, errors);
}

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    errors.messages(path, name, names::dns1123_subdomain(&name.to_lowercase()));
}

fn csi(source: &Value, path: &Path, errors: &mut Errors) {
    csi_driver_name(source.text("driver"), &path.child("driver"), errors);
    if let Some(reference) = source.sub("nodePublishSecretRef") {
        match reference.text("name") {
            "" => errors.required(&path.child("nodePublishSecretRef").child("name"), ""),
            name => errors.messages(&path.child("name"), name, names::dns1123_subdomain(name)),
        }
    }
}

fn ephemeral(source: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("volumeClaimTemplate");
    let Some(template) = source.sub("volumeClaimTemplate") else {
        return errors.required(&path, "");
    };
    super::template::metadata(&template["metadata"], &path.child("metadata"), errors);
    persistent_volume_claim::validate_spec(&template["spec"], &path.child("spec"), errors);
}

fn image(source: &Value, path: &Path, errors: &mut Errors) {
    if source.text("reference").is_empty() {
        errors.required(&path.child("reference"), "");
    }
    one_of(source, "pullPolicy", path, &["Always", "IfNotPresent", "Never"], errors);
}
