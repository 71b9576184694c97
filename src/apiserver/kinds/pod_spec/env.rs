//! Environment variables and where their values come from; the downward API.

use apimachinery::{field::Path, names};
use serde_json::Value;

use crate::kinds::{
    validation::{Errors, Report as _, dns_label, no_backsteps, quantity_text},
    value::Fields as _,
};

pub(super) fn env(container: &Value, path: &Path, errors: &mut Errors) {
    for (at, variable) in container.list("env").iter().enumerate() {
        let path = path.index(at);
        match variable.text("name") {
            "" => errors.required(&path.child("name"), ""),
            name => errors.messages(&path.child("name"), name, names::relaxed_env_var_name(name)),
        }
        if let Some(source) = variable.sub("valueFrom") {
            value_from(variable, source, &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, source: &Value, path: &Path, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(field) = source.sub("fieldRef") {
        sources += 1;
        field_ref(field, &ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(resource) = source.sub("resourceFieldRef") {
        sources += 1;
        resource_ref(resource, false, &path.child("resourceFieldRef"), errors);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(selector) = source.sub(field) {
            sources += 1;
            key_ref(selector, &path.child(field), errors);
        }
    }
    if let Some(file) = source.sub("fileKeyRef") {
        sources += 1;
        file_ref(file, &path.child("fileKeyRef"), errors);
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", detail);
    } else if !variable.text("value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(selector: &Value, path: &Path, errors: &mut Errors) {
    let name = selector.text("name");
    errors.messages(&path.child("name"), name, names::dns1123_subdomain(name));
    match selector.text("key") {
        "" => errors.required(&path.child("key"), ""),
        key => errors.messages(&path.child("key"), key, names::config_map_key(key)),
    }
}

fn file_ref(file: &Value, path: &Path, errors: &mut Errors) {
    match file.text("key") {
        "" => errors.required(&path.child("key"), ""),
        key => errors.messages(&path.child("key"), key, names::relaxed_env_var_name(key)),
    }
    match file.text("volumeName") {
        "" => errors.required(&path.child("volumeName"), ""),
        name => dns_label(name, &path.child("volumeName"), errors),
    }
    match file.text("path") {
        "" => errors.required(&path.child("path"), ""),
        text => no_backsteps(text, &path.child("path"), errors),
    }
}

pub(super) fn env_from(container: &Value, path: &Path, errors: &mut Errors) {
    for (at, source) in container.list("envFrom").iter().enumerate() {
        let place = path.index(at);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            let messages = names::relaxed_env_var_name(prefix);
            errors.messages(&place.child("prefix"), prefix, messages);
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            let Some(reference) = source.sub(field) else { continue };
            sources += 1;
            let place = place.child(field).child("name");
            match reference.text("name") {
                "" => errors.required(&place, ""),
                name => errors.messages(&place, name, names::name_is_dns_subdomain(name, true)),
            }
        }
        match sources {
            0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
        }
    }
}

/// Fields of the pod that variables may show, as messages list them.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of the pod that files may show.
pub(super) const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Fields that the downward API knows at all (`podshelper.ConvertDownwardAPIFieldLabel`).
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// A reference to a field of the pod, which must be one of `allowed`.
pub(super) fn field_ref(reference: &Value, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if reference.text("apiVersion").is_empty() {
        return errors.required(&path.child("apiVersion"), "");
    }
    let field = reference.text("fieldPath");
    if field.is_empty() {
        return errors.required(&path.child("fieldPath"), "");
    }
    let version = reference.text("apiVersion");
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        return errors.invalid(&path.child("fieldPath"), field, &detail);
    }
    let subscripted = field.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    if let Some((base, key)) = subscripted {
        return match base {
            "metadata.annotations" => {
                let key = key.to_lowercase();
                errors.messages(path, &key, names::qualified_name(&key));
            }
            "metadata.labels" => errors.messages(path, key, names::qualified_name(key)),
            _ => {
                let detail = format!(
                    "error converting fieldPath: field label does not support subscript: {field}"
                );
                errors.invalid(&path.child("fieldPath"), field, &detail);
            }
        };
    }
    // The name from before service accounts had one.
    let field = if field == "spec.host" { "spec.nodeName" } else { field };
    if !KNOWN_FIELDS.contains(&field) {
        let detail = format!("error converting fieldPath: field label not supported: {field}");
        errors.invalid(&path.child("fieldPath"), field, &detail);
    } else if !allowed.contains(&field) {
        errors.unsupported(&path.child("fieldPath"), field, allowed);
    }
}

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A reference to a limit or request of a container.
pub(super) fn resource_ref(reference: &Value, volume: bool, path: &Path, errors: &mut Errors) {
    let resource = reference.text("resource");
    let huge =
        resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if volume && reference.text("containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.unsupported(&path.child("resource"), resource, &RESOURCES);
    }
    let Some(divisor) = reference.sub("divisor") else { return };
    let divisor = quantity_text(divisor);
    const CPU: [&str; 2] = ["1m", "1"];
    const BYTES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, what): (&[&str], _) = match resource {
        "limits.cpu" | "requests.cpu" => (&CPU, "cpu"),
        "limits.memory" | "requests.memory" => (&BYTES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (&BYTES, "local ephemeral storage")
        }
        _ if huge => (&BYTES, "hugepages"),
        _ => return,
    };
    if divisor != "0" && !allowed.contains(&divisor.as_str()) {
        let values = match what {
            "cpu" => "1m and 1".to_owned(),
            _ => BYTES.join(", "),
        };
        let detail =
            format!("only divisor's values {values} are supported with the {what} resource");
        errors.invalid(&path.child("divisor"), resource, &detail);
    }
}
