//! What a policy or a binding says of the requests that it is about, and of its parameters.

use apimachinery::{
    field::Path,
    names::{self, path_segment_name},
};
use serde_json::{Value, json};

use super::webhooks::rule_of;
use crate::kinds::{
    validation::{Errors, Report as _, given_one_of, label_selector, one_of},
    value::{Fields as _, list_mut, set_default},
};

/// Operations that can be mutated.
const MUTABLE: [&str; 2] = ["CREATE", "UPDATE"];

/// Fills in what is left out.
pub(super) fn default(matching: &mut Value) {
    set_default(matching, "matchPolicy", "Equivalent");
    set_default(matching, "namespaceSelector", json!({}));
    set_default(matching, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        list_mut(matching, rules).for_each(|rule| set_default(rule, "scope", "*"));
    }
}

/// Checks a `MatchResources`.
pub(super) fn validate(matching: &Value, path: &Path, errors: &mut Errors) {
    given_one_of(matching, "matchPolicy", path, &["Equivalent", "Exact"], errors);
    for selector in ["namespaceSelector", "objectSelector"] {
        match matching.has(selector) {
            true => label_selector(matching, selector, path, errors),
            false => errors.required(&path.child(selector), ""),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (at, rule) in matching.list(field).iter().enumerate() {
            named_rule(rule, &path.child(field).index(at), errors);
        }
    }
}

fn named_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let names: Vec<&str> = rule.texts("resourceNames").collect();
    for (at, name) in names.iter().enumerate() {
        let path = path.child("resourceNames").index(at);
        errors.messages(&path, name, path_segment_name(name));
        if names[..at].contains(name) {
            errors.duplicate(&path, *name);
        }
    }
    rule_of(rule, path, errors);
}

/// Checks that nothing is to be mutated that cannot be.
pub(super) fn only_mutable(matching: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("resourceRules").child("operations");
    for rule in matching.list("resourceRules") {
        for operation in rule.texts("operations").filter(|it| !MUTABLE.contains(it)) {
            let shown = ["*", "CONNECT", "CREATE", "UPDATE"];
            errors.unsupported(&path, operation, &shown);
        }
    }
}

/// Checks the kind of a policy's parameters.
pub(super) fn param_kind(kind: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("apiVersion");
    let text = kind.text("apiVersion");
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    if text.is_empty() {
        errors.required(&at, "");
    } else if version.contains('/') {
        errors.invalid(&at, text, &format!("unexpected GroupVersion string: {text}"));
    } else {
        let joined = |messages: Vec<String>| messages.join(",");
        if !group.is_empty() && !names::dns1123_subdomain(group).is_empty() {
            errors.invalid(&at, group, &joined(names::dns1123_subdomain(group)));
        }
        if version.is_empty() {
            errors.invalid(&at, text, "version must be specified");
        } else if !names::dns1035_label(version).is_empty() {
            errors.invalid(&at, version, &joined(names::dns1035_label(version)));
        }
    }
    let name = kind.text("kind");
    let wrong = names::dns1035_label(&name.to_lowercase());
    if name.is_empty() {
        errors.required(&path.child("kind"), "");
    } else if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.invalid(&path.child("kind"), name, &why);
    }
}

/// Checks which parameters a binding takes.
pub(super) fn param_ref(reference: &Value, path: &Path, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let name = reference.text("name");
    let selects = reference.has("selector");
    if !name.is_empty() {
        errors.messages(&path.child("name"), name, path_segment_name(name));
        if selects {
            errors.forbidden(&path.child("name"), EXCLUSIVE);
        }
    }
    label_selector(reference, "selector", path, errors);
    if selects && !name.is_empty() {
        errors.forbidden(&path.child("selector"), EXCLUSIVE);
    }
    if !selects && name.is_empty() {
        errors.required(path, "one of name or selector must be specified");
    }
    one_of(reference, "parameterNotFoundAction", path, &["Deny", "Allow"], errors);
}
