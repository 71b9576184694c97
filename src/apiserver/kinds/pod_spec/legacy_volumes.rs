//! Volume sources of storage systems that now have CSI drivers: still part of the API, and of
//! PersistentVolumes too.

use apimachinery::{field::Path, names};
use serde_json::Value;

use crate::kinds::{
    validation::{Errors, Report as _, descending_path, dns_label},
    value::Fields as _,
};

fn required(source: &Value, fields: &[&str], path: &Path, errors: &mut Errors) {
    for field in fields {
        let empty = match &source[*field] {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            other => other.is_null(),
        };
        if empty {
            errors.required(&path.child(field), "");
        }
    }
}

fn partition(source: &Value, path: &Path, errors: &mut Errors) {
    let number = source.int("partition").unwrap_or_default();
    if !(0..=255).contains(&number) {
        let detail = names::inclusive_range_error(1, 255);
        errors.invalid(&path.child("partition"), number, &detail);
    }
}

pub(super) fn git_repo(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["repository"], path, errors);
    descending_path(source.text("directory"), &path.child("directory"), errors);
}

pub(crate) fn gce_disk(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["pdName"], path, errors);
    partition(source, path, errors);
}

pub(crate) fn aws_disk(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["volumeID"], path, errors);
    partition(source, path, errors);
}

pub(crate) const ISCSI_NAME: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";

/// Whether the interface that is named after volume and portal has too long a name.
pub(crate) fn iscsi_name_too_long(source: &Value, volume: &str) -> bool {
    source.has("initiatorName") && volume.len() + 1 + source.text("targetPortal").len() > 64
}

/// An iSCSI volume of a pod.
pub(crate) fn iscsi(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["targetPortal"], path, errors);
    let unknown = "must be valid format starting with iqn, eui, or naa";
    iscsi_qualified_name(source, unknown, path, errors);
    iscsi_unit(source, path, errors);
    iscsi_initiator(source, unknown, path, errors);
}

/// An iSCSI volume of the PersistentVolume of this name.
pub(crate) fn iscsi_of(volume: &str, source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["targetPortal"], path, errors);
    if iscsi_name_too_long(source, volume) {
        let portal = source.text("targetPortal");
        errors.invalid(&path.child("targetportal"), portal, ISCSI_NAME);
    }
    let unknown = "must be valid format";
    iscsi_qualified_name(source, unknown, path, errors);
    iscsi_unit(source, path, errors);
    secret(source, &["name"], path, errors);
    iscsi_initiator(source, unknown, path, errors);
}

fn iscsi_qualified_name(source: &Value, unknown: &str, path: &Path, errors: &mut Errors) {
    match source.text("iqn") {
        "" => errors.required(&path.child("iqn"), ""),
        name => iscsi_name(name, unknown, &path.child("iqn"), errors),
    }
}

fn iscsi_initiator(source: &Value, unknown: &str, path: &Path, errors: &mut Errors) {
    if let Some(name) = source.opt_text("initiatorName") {
        iscsi_name(name, unknown, &path.child("initiatorname"), errors);
    }
}

/// `unknown` is what is said of a name of none of the three forms.
fn iscsi_name(name: &str, unknown: &str, path: &Path, errors: &mut Errors) {
    let wrong = match name.get(..3) {
        Some("iqn") => !iqn(name),
        Some("eui") => !(name.len() == 20 && name[4..].bytes().all(|b| b.is_ascii_alphanumeric())),
        Some("naa") => !(name.len() == 36 && name[4..].bytes().all(|b| b.is_ascii_alphanumeric())),
        _ => return errors.invalid(path, name, unknown),
    };
    if wrong {
        errors.invalid(path, name, "must be valid format");
    }
}

fn iscsi_unit(source: &Value, path: &Path, errors: &mut Errors) {
    let lun = source.int("lun").unwrap_or_default();
    if !(0..=255).contains(&lun) {
        errors.invalid(&path.child("lun"), lun, &names::inclusive_range_error(0, 255));
    }
    if (source.on("chapAuthDiscovery") || source.on("chapAuthSession")) && !source.has("secretRef")
    {
        errors.required(&path.child("secretRef"), "");
    }
}

/// `iqn.YYYY-MM.reversed.domain:anything`.
fn iqn(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let Some((date, rest)) = rest.split_once('.') else { return false };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let dated = date
        .split_once('-')
        .is_some_and(|(y, m)| y.len() == 4 && m.len() == 2 && digits(y) && digits(m));
    let Some((domain, target)) = rest.split_once(':') else { return false };
    dated
        && !domain.is_empty()
        && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && !target.is_empty()
        && !target.chars().any(|c| ",;*&$|".contains(c) || c.is_whitespace())
}

pub(super) fn glusterfs(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["endpoints", "path"], path, errors);
}

/// The same of a PersistentVolume.
pub(crate) fn persistent_glusterfs(source: &Value, path: &Path, errors: &mut Errors) {
    glusterfs(source, path, errors);
    let path = path.child("endpointsNamespace");
    match source.opt_text("endpointsNamespace") {
        None => {}
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.invalid(&path, "", detail);
        }
        Some(namespace) => dns_label(namespace, &path, errors),
    }
}

pub(crate) fn flocker(source: &Value, path: &Path, errors: &mut Errors) {
    let (name, id) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && id.is_empty() {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !id.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.invalid(path, "resource", detail);
    }
    if name.contains('/') {
        errors.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

pub(crate) fn rbd(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["monitors", "image"], path, errors);
}

/// A reference to a secret, where there is one.
fn secret(source: &Value, fields: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(reference) = source.sub("secretRef") {
        required(reference, fields, &path.child("secretRef"), errors);
    }
}

pub(super) fn cinder(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["volumeID"], path, errors);
    secret(source, &["name"], path, errors);
}

/// The same of a PersistentVolume, whose secret is in any namespace.
pub(crate) fn persistent_cinder(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["volumeID"], path, errors);
    secret(source, &["name", "namespace"], path, errors);
}

pub(crate) fn cephfs(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["monitors"], path, errors);
}

pub(crate) fn quobyte(source: &Value, path: &Path, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.required(&path.child("registry"), PAIRS);
    } else if source.text("tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), detail);
    } else {
        for _ in registry.split(',').filter(|pair| !pair.contains(':')) {
            errors.invalid(&path.child("registry"), registry, PAIRS);
        }
    }
    required(source, &["volume"], path, errors);
}

pub(crate) fn fibre_channel(source: &Value, path: &Path, errors: &mut Errors) {
    let path_names = path.child("targetWWNs");
    let (targets, ids) = (source.list("targetWWNs"), source.list("wwids"));
    if targets.is_empty() && ids.is_empty() {
        errors.required(&path_names, "must specify either targetWWNs or wwids, but not both");
    }
    if !targets.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&path_names, targets.to_vec(), detail);
    }
    if !targets.is_empty() {
        match source.int("lun") {
            None => {
                errors.required(&path.child("lun"), "lun is required if targetWWNs is specified")
            }
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.invalid(&path.child("lun"), lun, &names::inclusive_range_error(0, 255));
            }
            Some(_) => {}
        }
    }
}

pub(crate) fn flex(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["driver"], path, errors);
    for (key, _) in source.entries("options") {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain).to_lowercase();
        let domain = format!(".{domain}");
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&path.child("options").key(key), key.as_str(), detail);
        }
    }
}

pub(super) fn azure_file(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["secretName", "shareName"], path, errors);
}

/// The same of a PersistentVolume.
pub(crate) fn persistent_azure_file(source: &Value, path: &Path, errors: &mut Errors) {
    azure_file(source, path, errors);
    if source.opt_text("secretNamespace") == Some("") {
        errors.required(&path.child("secretNamespace"), "");
    }
}

pub(crate) fn azure_disk(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["diskName", "diskURI"], path, errors);
    for (field, allowed) in [
        ("cachingMode", ["None", "ReadOnly", "ReadWrite"]),
        ("kind", ["Dedicated", "Managed", "Shared"]),
    ] {
        crate::kinds::validation::optional_one_of(source, field, path, &allowed, errors);
    }
    let uri = source.text("diskURI");
    let form = match source.opt_text("kind") {
        None => return,
        Some("Managed") if !uri.starts_with("/subscriptions/") => {
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        }
        Some(kind) if kind != "Managed" && !uri.starts_with("https://") => {
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        }
        Some(_) => return,
    };
    errors.unsupported(&path.child("diskURI"), uri, &[form]);
}

pub(crate) fn vsphere(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["volumePath"], path, errors);
}

pub(crate) fn photon(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["pdID"], path, errors);
}

pub(crate) fn portworx(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["volumeID"], path, errors);
}

pub(super) fn storageos(source: &Value, path: &Path, errors: &mut Errors) {
    storageos_names(source, path, errors);
    secret(source, &["name"], path, errors);
}

/// The same of a PersistentVolume, whose secret is in any namespace.
pub(crate) fn persistent_storageos(source: &Value, path: &Path, errors: &mut Errors) {
    storageos_names(source, path, errors);
    secret(source, &["name", "namespace"], path, errors);
}

fn storageos_names(source: &Value, path: &Path, errors: &mut Errors) {
    for field in ["volumeName", "volumeNamespace"] {
        match source.text(field) {
            "" if field == "volumeName" => errors.required(&path.child(field), ""),
            "" => {}
            name => dns_label(name, &path.child(field), errors),
        }
    }
}

pub(crate) fn scale_io(source: &Value, path: &Path, errors: &mut Errors) {
    required(source, &["gateway", "system", "volumeName"], path, errors);
}
