//! Checks that many kinds share, worded as upstream's `apimachinery/pkg/api/validation` and
//! `pkg/apis/core/validation`.

use apimachinery::{
    field::{FieldError, Path},
    names,
    quantity::Quantity,
};
use serde_json::Value;

use super::value::{Fields as _, same};

/// What is wrong with an object, in the order found.
pub(crate) type Errors = Vec<FieldError>;

/// A check of the value at a path.
pub(crate) type Check = fn(&Value, &Path, &mut Errors);

pub(crate) const IMMUTABLE: &str = "field is immutable";
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const POSITIVE: &str = "must be greater than zero";
pub(crate) const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Short ways to say what is wrong.
pub(crate) trait Report {
    fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str);
    /// As `invalid`, where upstream shows no value but Go's `nil`.
    fn invalid_nil(&mut self, path: &Path, detail: &str);
    fn required(&mut self, path: &Path, detail: &str);
    fn forbidden(&mut self, path: &Path, detail: &str);
    fn duplicate(&mut self, path: &Path, value: impl Into<Value>);
    fn unsupported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]);
    fn not_found(&mut self, path: &Path, value: impl Into<Value>);
    /// One `invalid` for each message.
    fn messages(&mut self, path: &Path, value: &str, messages: Vec<String>);
}

impl Report for Errors {
    fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        self.push(FieldError::invalid(path, value, detail));
    }

    fn invalid_nil(&mut self, path: &Path, detail: &str) {
        self.push(FieldError::invalid_shown(path, "null", detail));
    }

    fn required(&mut self, path: &Path, detail: &str) {
        self.push(FieldError::required(path, detail));
    }

    fn forbidden(&mut self, path: &Path, detail: &str) {
        self.push(FieldError::forbidden(path, detail));
    }

    fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(FieldError::duplicate(path, value));
    }

    fn unsupported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        self.push(FieldError::not_supported(path, value, supported));
    }

    fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(FieldError::not_found(path, value));
    }

    fn messages(&mut self, path: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.push(FieldError::invalid(path, value, &message));
        }
    }
}

/// `spec`.
pub(crate) fn spec() -> Path {
    Path::root("spec")
}

/// A string that must be one of `allowed`; an empty one is missing.
pub(crate) fn one_of(
    object: &Value,
    field: &str,
    path: &Path,
    allowed: &[&str],
    errors: &mut Errors,
) {
    match object.text(field) {
        "" => errors.required(&path.child(field), ""),
        value if allowed.contains(&value) => {}
        value => errors.unsupported(&path.child(field), value, allowed),
    }
}

/// A string that must be there, a pointer in Go, and be one of `allowed`.
pub(crate) fn given_one_of(
    object: &Value,
    field: &str,
    path: &Path,
    allowed: &[&str],
    errors: &mut Errors,
) {
    match object.opt_text(field) {
        None => errors.required(&path.child(field), ""),
        Some(value) if allowed.contains(&value) => {}
        Some(value) => errors.unsupported(&path.child(field), value, allowed),
    }
}

/// A string that may be left out, but must otherwise be one of `allowed`.
pub(crate) fn optional_one_of(
    object: &Value,
    field: &str,
    path: &Path,
    allowed: &[&str],
    errors: &mut Errors,
) {
    if let Some(value) = object.opt_text(field)
        && !allowed.contains(&value)
    {
        errors.unsupported(&path.child(field), value, allowed);
    }
}

/// An integer that must not be negative, absent as zero.
pub(crate) fn not_negative(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(value) = object.int(field).filter(|value| *value < 0) {
        errors.invalid(&path.child(field), value, NOT_NEGATIVE);
    }
}

/// A field that must not change.
pub(crate) fn immutable(old: &Value, new: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if !same(&old[field], &new[field]) {
        errors.invalid(&path.child(field), new[field].clone(), IMMUTABLE);
    }
}

/// A file mode that may be left out.
pub(crate) fn file_mode(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(mode) = object.int(field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(field), mode, FILE_MODE);
    }
}

/// A DNS label at `path`.
pub(crate) fn dns_label(value: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, value, names::dns1123_label(value));
}

/// A DNS subdomain at `path`.
pub(crate) fn dns_subdomain(value: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, value, names::dns1123_subdomain(value));
}

/// A label key, or another qualified name.
pub(crate) fn label_name(value: &str, path: &Path, errors: &mut Errors) {
    errors.messages(path, value, names::qualified_name(value));
}

/// The name of a finalizer: qualified, or one of Kubernetes' own.
pub(crate) fn qualified_finalizer(value: &str, path: &Path, errors: &mut Errors) {
    label_name(value, path, errors);
    let standard = matches!(value, "kubernetes" | "orphan" | "foregroundDeletion");
    if !value.contains('/') && !standard {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(path, value, detail);
    }
}

/// A name like `example.com/controller`.
pub(crate) fn domain_prefixed_path(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let parts =
        name.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty());
    let Some((domain, rest)) = parts else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return errors.invalid(path, name, detail);
    };
    errors.messages(path, domain, names::dns1123_subdomain(domain));
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%/".contains(&byte);
    if !rest.bytes().all(good) {
        let detail = names::regex_error("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
        errors.invalid(path, rest, &detail);
    }
}

/// A map of labels.
pub(crate) fn labels(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    let mut inner = None;
    for (key, value) in object.strings(field) {
        let path = inner.get_or_insert_with(|| path.child(field));
        label_name(key, path, errors);
        errors.messages(path, value, names::label_value(value));
    }
}

/// A `metav1.LabelSelector`, if there is one.
pub(crate) fn label_selector(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(selector) = object.sub(field) {
        label_selector_at(selector, &path.child(field), errors);
    }
}

/// A `metav1.LabelSelector`.
pub(crate) fn label_selector_at(selector: &Value, path: &Path, errors: &mut Errors) {
    labels(selector, "matchLabels", path, errors);
    let path = path.child("matchExpressions");
    for (at, requirement) in selector.list("matchExpressions").iter().enumerate() {
        label_requirement(requirement, &path.index(at), errors);
    }
}

/// The `metav1.Condition`s of a status.
pub(crate) fn conditions(status: &Value, path: &Path, errors: &mut Errors) {
    const STATES: [&str; 3] = ["False", "True", "Unknown"];
    let all = status.list("conditions");
    for (at, condition) in all.iter().enumerate() {
        let path = path.child("conditions").index(at);
        let kind = condition.text("type");
        if all[..at].iter().any(|other| other.text("type") == kind) {
            errors.duplicate(&path, kind);
        }
        match kind {
            "" => errors.required(&path.child("type"), "is required"),
            kind => label_name(kind, &path.child("type"), errors),
        }
        one_of(condition, "status", &path, &STATES, errors);
        if let Some(seen) = condition.int("observedGeneration").filter(|seen| *seen < 0) {
            let detail = "must be greater than or equal to zero";
            errors.invalid(&path.child("observedGeneration"), seen, detail);
        }
        if !condition.has("lastTransitionTime") {
            errors.required(&path.child("lastTransitionTime"), "");
        }
        let reason = condition.text("reason");
        let place = path.child("reason");
        if reason.is_empty() {
            errors.required(&place, "");
        } else if !is_reason(reason) {
            let rule = "a condition reason must start with alphabetic character, optionally \
                        followed by a string of alphanumeric characters or '_,:', and must end with \
                        an alphanumeric character or '_'";
            let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
            let pattern = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
            errors.invalid(&place, reason, &names::regex_error(rule, pattern, &examples));
        }
        for (field, limit) in [("reason", 1 << 10), ("message", 32 << 10)] {
            if condition.text(field).len() > limit {
                errors.push(FieldError::too_long(&path.child(field), limit));
            }
        }
    }
}

fn is_reason(reason: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte);
    let bytes = reason.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().copied().all(inner)
        && bytes.last().is_some_and(|last| last.is_ascii_alphanumeric() || *last == b'_')
}

fn label_requirement(requirement: &Value, path: &Path, errors: &mut Errors) {
    let values = requirement.list("values");
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&path.child("values"), detail);
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
        }
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    label_name(requirement.text("key"), &path.child("key"), errors);
    for (at, value) in requirement.texts("values").enumerate() {
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.messages(&path.child("values").index(at), value, messages);
        }
    }
}

/// Whether a label selector has no requirement at all.
pub(crate) fn selects_everything(selector: &Value) -> bool {
    selector.list("matchExpressions").is_empty() && selector.entries("matchLabels").next().is_none()
}

/// A port by number or by name (`IntOrString`).
pub(crate) fn port(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(name) => errors.messages(path, name, names::port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or_default();
            port_number(number, path, errors);
        }
    }
}

/// A port number.
pub(crate) fn port_number(number: i64, path: &Path, errors: &mut Errors) {
    for message in names::port_number(number) {
        errors.invalid(path, number, &message);
    }
}

/// A path without `..`.
pub(crate) fn no_backsteps(value: &str, path: &Path, errors: &mut Errors) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

/// A relative path that does not leave where it starts.
pub(crate) fn descending_path(value: &str, path: &Path, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    no_backsteps(value, path, errors);
}

/// A descending path that does not look like the kubelet's own `..data`.
pub(crate) fn local_path(value: &str, path: &Path, errors: &mut Errors) {
    descending_path(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid(path, value, "must not start with '..'");
    }
}

/// A quantity; the schema has checked its form, so that zero stands for what it cannot be.
pub(crate) fn quantity(value: &Value) -> Quantity {
    Quantity::from_json(value).unwrap_or(Quantity::ZERO)
}

/// The text of a quantity as Go prints it.
pub(crate) fn quantity_text(value: &Value) -> String {
    quantity(value).to_string()
}

/// The list of a resource's errors as the texts that clients see; for tests.
#[cfg(test)]
pub(crate) fn texts(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}
