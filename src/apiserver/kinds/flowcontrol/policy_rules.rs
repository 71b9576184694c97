//! Whose requests a FlowSchema is about, and which.

use apimachinery::{field::Path, names};
use serde_json::Value;

use crate::kinds::{
    validation::{Errors, Report as _, dns_label, dns_subdomain},
    value::Fields as _,
};

const ALL: &str = "*";
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// The rules of a FlowSchema.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    for (at, rule) in spec.list("rules").iter().enumerate() {
        let path = path.child("rules").index(at);
        let subjects = rule.list("subjects");
        if subjects.is_empty() {
            let detail = "subjects must contain at least one value";
            errors.required(&path.child("subjects"), detail);
        }
        for (at, subject) in subjects.iter().enumerate() {
            validate_subject(subject, &path.child("subjects").index(at), errors);
        }
        let (resources, others) = (rule.list("resourceRules"), rule.list("nonResourceRules"));
        if resources.is_empty() && others.is_empty() {
            let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
            errors.required(&path, detail);
        }
        for (at, rule) in resources.iter().enumerate() {
            resource_rule(rule, &path.child("resourceRules").index(at), errors);
        }
        for (at, rule) in others.iter().enumerate() {
            url_rule(rule, &path.child("nonResourceRules").index(at), errors);
        }
    }
}

fn validate_subject(subject: &Value, path: &Path, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.text("kind");
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        return errors.unsupported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
    };
    let place = path.child(own);
    match subject.sub(own) {
        None => {
            errors.required(&place, &format!("{own} is required when subject kind is '{kind}'"))
        }
        Some(account) if *own == "serviceAccount" => service_account(account, &place, errors),
        Some(named) if named.text("name").is_empty() => errors.required(&place.child("name"), ""),
        Some(_) => {}
    }
    for (kind, other) in KINDS.iter().filter(|(_, other)| other != own) {
        if subject.has(other) {
            let detail = format!("{other} is forbidden when subject kind is not '{kind}'");
            errors.forbidden(&path.child(other), &detail);
        }
    }
}

fn service_account(account: &Value, path: &Path, errors: &mut Errors) {
    match account.text("name") {
        "" => errors.required(&path.child("name"), ""),
        ALL => {}
        name => dns_subdomain(name, &path.child("name"), errors),
    }
    let path = path.child("namespace");
    match account.text("namespace") {
        "" => errors.required(&path, "must specify namespace for service account"),
        namespace => dns_label(namespace, &path, errors),
    }
}

fn resource_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    verbs(rule, path, errors);
    let lists = [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")];
    for (field, one, several) in lists {
        let path = path.child(field);
        if rule.list(field).is_empty() {
            errors.required(&path, &format!("resource rules must supply at least one {one}"));
        } else {
            alone(rule, field, several, &path, errors);
        }
    }
    let place = path.child("namespaces");
    if rule.list("namespaces").is_empty() && !rule.on("clusterScope") {
        let detail =
            "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&place, detail);
    } else if !alone(rule, "namespaces", "namespaces", &place, errors) {
        for (at, namespace) in rule.texts("namespaces").enumerate() {
            for message in names::dns1123_label(namespace) {
                let detail =
                    format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                errors.invalid(&place.index(at), namespace, &detail);
            }
        }
    }
}

fn url_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    verbs(rule, path, errors);
    let path = path.child("nonResourceURLs");
    if rule.list("nonResourceURLs").is_empty() {
        errors.required(&path, "nonResourceURLs must contain at least one value");
    } else if !alone(rule, "nonResourceURLs", "non-resource URLs", &path, errors) {
        for (at, url) in rule.texts("nonResourceURLs").enumerate() {
            if let Some(detail) = wrong_url(url) {
                errors.invalid(&path.index(at), url, detail);
            }
        }
    }
}

fn wrong_url(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        url if !url.starts_with('/') => Some("must start with slash"),
        url if url.contains(' ') => Some("must not contain white-space"),
        url if url.contains("//") => Some("must not contain double slash"),
        url if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

fn verbs(rule: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("verbs");
    if rule.list("verbs").is_empty() {
        errors.required(&path, "verbs must contain at least one value");
    } else if !alone(rule, "verbs", "verbs", &path, errors)
        && rule.texts("verbs").any(|verb| !VERBS.contains(&verb))
    {
        errors.unsupported(&path, rule["verbs"].clone(), &VERBS);
    }
}

/// Whether a list has the one that stands for all, which must be alone then.
fn alone(rule: &Value, field: &str, several: &str, path: &Path, errors: &mut Errors) -> bool {
    let all = rule.texts(field).any(|item| item == ALL);
    if all && rule.list(field).len() > 1 {
        let detail = format!("if '*' is present, must not specify other {several}");
        errors.invalid(path, rule[field].clone(), &detail);
    }
    all
}
