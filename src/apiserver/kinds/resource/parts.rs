//! What several kinds of the group have parts of: names, taints, tolerations, configurations.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    declared::in_bytes,
    validation::{Errors, Report as _, label_name},
    value::Fields as _,
};

/// Longest text of a configuration.
pub(super) const CONFIG_MAX: usize = 10 << 10;
/// Longest name of an attribute, without its domain.
const ID_MAX: usize = 32;
/// The effects of taints.
pub(super) const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// The name of a pool: subdomains with slashes between.
pub(super) fn pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > names::DNS_SUBDOMAIN_MAX {
        errors.push(FieldError::too_long(path, names::DNS_SUBDOMAIN_MAX));
    }
    for part in name.split('/') {
        errors.messages(path, part, names::dns1123_subdomain(part));
    }
}

/// The same where it is declared: each part is told.
pub(super) fn declared_pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.len() > names::DNS_SUBDOMAIN_MAX {
        errors.push(FieldError::too_long(path, names::DNS_SUBDOMAIN_MAX));
    }
    for (at, part) in name.split('/').enumerate() {
        if part.is_empty() {
            errors.invalid(path, name, &format!("segment {at}: must not be empty"));
        } else {
            for message in in_bytes(names::dns1123_subdomain(part)) {
                errors.invalid(path, part, &format!("segment {at}: {message}"));
            }
        }
    }
}

/// The name of an attribute, with its domain.
pub(super) fn declared_full_name(name: &str, path: &Path, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match *parts {
        [id] => c_identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid(path, "", "prefix must not be empty");
            } else {
                if domain.len() > 63 {
                    errors.push(FieldError::too_long(path, 63));
                }
                for message in in_bytes(names::dns1123_subdomain(domain)) {
                    errors.invalid(path, domain, &format!("prefix: {message}"));
                }
            }
            if id.is_empty() {
                errors.invalid(path, "", "name must not be empty");
            } else {
                c_identifier(id, path, errors);
            }
        }
        // Upstream looks no further at names of more parts.
        _ => {}
    }
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

/// The name that a class of devices has as a resource of containers.
pub(super) fn declared_extended_name(name: &str, path: &Path, errors: &mut Errors) {
    if !name.contains('/') {
        let detail = "a name must be a domain-prefixed path, such as 'example.com/my-prop'";
        errors.invalid(path, name, detail);
    } else if name.contains("kubernetes.io/") {
        errors.invalid(path, name, "must not have \"kubernetes.io/\" domain");
    }
    if name.starts_with("requests.") {
        errors.invalid(path, name, "must not have \"requests.\" prefix");
    }
    for message in names::qualified_name(&format!("requests.{name}")) {
        errors.invalid(path, name, &message);
    }
}

/// The name of an attribute or capacity, with or without a domain.
pub(super) fn qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match *parts {
        [id] => c_identifier(id, path, errors),
        [domain, id] => {
            match domain {
                "" => errors.invalid(path, "", "the domain must not be empty"),
                domain => crate::kinds::pod_spec::csi_driver_name(domain, path, errors),
            }
            match id {
                "" => errors.invalid(path, "", "the name must not be empty"),
                id => c_identifier(id, path, errors),
            }
        }
        _ => {}
    }
}

fn c_identifier(id: &str, path: &Path, errors: &mut Errors) {
    if id.len() > ID_MAX {
        errors.push(FieldError::too_long(path, ID_MAX));
    }
    errors.messages(path, id, names::c_identifier(id));
}

/// A name that becomes a part of others in an error: shortened in its middle when it is too long.
pub(super) fn shortened(name: &str, most: usize) -> String {
    if name.len() <= most {
        return name.to_owned();
    }
    let left = most - 3;
    let head = name.get(..left.div_ceil(2)).unwrap_or_default();
    let tail = name.get(name.len() - left / 2..).unwrap_or_default();
    format!("{head}...{tail}")
}

/// A taint. Its effect is declared.
pub(super) fn taint(taint: &Value, path: &Path, errors: &mut Errors) {
    label_name(taint.text("key"), &path.child("key"), errors);
    label_value(taint.text("value"), &path.child("value"), errors);
}

/// What tolerates taints. Key, operator and effect are declared.
pub(super) fn tolerations(object: &Value, path: &Path, errors: &mut Errors) {
    for (at, toleration) in object.list("tolerations").iter().enumerate() {
        let path = path.child("tolerations").index(at).child("value");
        let value = toleration.text("value");
        match toleration.text("operator") {
            "Exists" if !value.is_empty() => {
                errors.invalid(&path, value, "must be empty for operator `Exists`");
            }
            "Equal" => label_value(value, &path, errors),
            _ => {}
        }
    }
}

fn label_value(value: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, value, names::label_value(value));
}

/// A configuration for a driver, whose name is declared. `stored` has passed before.
pub(super) fn configuration(config: &Value, stored: bool, path: &Path, errors: &mut Errors) {
    let path = path.child("opaque");
    match config.sub("opaque") {
        None => errors.required(&path, ""),
        Some(opaque) => {
            raw(opaque.sub("parameters"), stored, &path.child("parameters"), errors);
        }
    }
}

/// A document for a driver: an object.
pub(super) fn raw(document: Option<&Value>, stored: bool, path: &Path, errors: &mut Errors) {
    match document {
        None => errors.required(path, ""),
        Some(document) if !stored && document.to_string().len() > CONFIG_MAX => {
            errors.push(FieldError::too_long(path, CONFIG_MAX));
        }
        Some(Value::Object(_)) => {}
        Some(_) => errors.invalid(path, "<value omitted>", "must be a valid JSON object"),
    }
}

/// Names of conditions that a device waits for, and of those that mean that it failed.
pub(super) fn binding_conditions(object: &Value, path: &Path, errors: &mut Errors) {
    const MOST: usize = 4;
    let fields = ["bindingConditions", "bindingFailureConditions"];
    let lists = fields.map(|field| object.texts(field).collect::<Vec<_>>());
    for (field, list) in fields.iter().zip(&lists) {
        // Of more than that, the number alone is told.
        if list.len() <= MOST {
            for (at, name) in list.iter().enumerate() {
                label_name(name, &path.child(field).index(at), errors);
            }
        }
    }
    let [conditions, failures] = &lists;
    for (field, list) in fields.iter().zip(&lists) {
        for (at, name) in list.iter().enumerate() {
            let path = path.child(field).index(at);
            if list[..at].contains(name) {
                errors.duplicate(&path, *name);
            }
            if *field == "bindingFailureConditions" && conditions.contains(name) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.invalid(&path, *name, detail);
            }
        }
    }
    let missing = match (conditions.is_empty(), failures.is_empty()) {
        (true, false) => (fields[0], fields[1]),
        (false, true) => (fields[1], fields[0]),
        _ => return,
    };
    let detail = format!("{} are required to use {}", missing.0, missing.1);
    errors.invalid(&path.child(missing.0), object[missing.0].clone(), &detail);
}
