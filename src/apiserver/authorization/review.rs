//! The questions of `authorization.k8s.io`: SubjectAccessReview and its kin. Nothing is stored; the
//! object that comes in goes out with a status.

use std::collections::BTreeMap;

use apimachinery::{
    GroupVersionKind, Status,
    field::{FieldError, Path},
    names,
    selector::labels,
};
use serde_json::{Map, Value, json};

use super::{Authorizer, rules::PolicyRule};
use crate::{
    kinds::{
        validation::{Errors, Report as _, label_name},
        value::Fields as _,
    },
    request::{RequestInfo, UserInfo},
};

const EXACTLY_ONE: &str =
    "exactly one of nonResourceAttributes or resourceAttributes must be specified";

impl Authorizer {
    /// Answers a `subjectaccessreviews`, `selfsubjectaccessreviews`, `localsubjectaccessreviews` or
    /// `selfsubjectrulesreviews` creation by `user` in `info.namespace`.
    ///
    /// # Errors
    /// 422 for a malformed question, 400 for a namespace missing or wrong.
    pub fn review(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        mut review: Value,
    ) -> Result<Value, Status> {
        if info.resource == "selfsubjectrulesreviews" {
            return self.rules_review(user, &review);
        }
        let own = info.resource == "selfsubjectaccessreviews";
        let local = info.resource == "localsubjectaccessreviews";
        let errors = validate(&review, own, local);
        if !errors.is_empty() {
            // Upstream takes the kind from the decoded object, where it is always empty.
            let kind = GroupVersionKind::new("authorization.k8s.io", "v1", "");
            return Err(Status::invalid(&kind, "", &errors));
        }
        if local && review["metadata"]["namespace"] != *info.namespace {
            return Err(Status::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {}",
                info.namespace
            )));
        }
        let spec = &review["spec"];
        let subject = if own { user.clone() } else { subject(spec) };
        let decision = self.explain(&subject, &question(spec));
        let mut status = json!({ "allowed": decision.allowed });
        if !decision.reason.is_empty() {
            status["reason"] = json!(decision.reason);
        }
        let ignored: Vec<String> = ["fieldSelector", "labelSelector"]
            .iter()
            .filter_map(|selector| ignored(&spec["resourceAttributes"][*selector], selector))
            .collect();
        if !ignored.is_empty() {
            status["evaluationError"] = json!(ignored.join("; "));
        }
        review["status"] = status;
        Ok(review)
    }

    fn rules_review(&self, user: &UserInfo, review: &Value) -> Result<Value, Status> {
        let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let mut resources = Vec::new();
        let mut paths = Vec::new();
        for rule in self.rbac.rules_for(user, namespace) {
            let PolicyRule { verbs, api_groups, resources: of, names, urls } = rule;
            if !of.is_empty() {
                let mut rule = json!({"verbs": verbs, "apiGroups": api_groups, "resources": of});
                if !names.is_empty() {
                    rule["resourceNames"] = json!(names);
                }
                resources.push(rule);
            }
            if !urls.is_empty() {
                paths.push(json!({"verbs": verbs, "nonResourceURLs": urls}));
            }
        }
        let incomplete = super::node::node_name(user).is_some();
        let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete});
        if incomplete {
            status["evaluationError"] =
                json!("node authorizer does not support user rule resolution");
        }
        Ok(json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "metadata": {}, "spec": {}, "status": status,
        }))
    }
}

fn validate(review: &Value, own: bool, local: bool) -> Vec<FieldError> {
    let path = Path::root("spec");
    let spec = &review["spec"];
    let mut errors = Vec::new();
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_null() == other.is_null() {
        errors.push(FieldError::invalid(&path, other.clone(), EXACTLY_ONE));
    }
    let empty = |field: &str| match &spec[field] {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if !own && empty("user") && empty("groups") {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", detail));
    }
    let attributes = Path::root("spec.resourceAttributes");
    for selector in ["fieldSelector", "labelSelector"] {
        let labels = selector == "labelSelector";
        errors.extend(validate_selector(&resource[selector], labels, &attributes.child(selector)));
    }
    let mut metadata = review["metadata"].as_object().cloned().unwrap_or_default();
    metadata.remove("managedFields");
    if local {
        metadata.remove("namespace");
    }
    metadata.retain(|_, value| !matches!(value, Value::Null) && *value != "");
    if !metadata.is_empty() {
        let detail = if local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid(
            &Path::root("metadata"),
            review["metadata"].clone(),
            detail,
        ));
    }
    if local && !resource.is_null() {
        let of = |value: &Value| value["namespace"].as_str().unwrap_or_default().to_owned();
        if of(resource) != of(&review["metadata"]) {
            let path = Path::root("spec.resourceAttributes.namespace");
            errors.push(FieldError::invalid(&path, of(resource), "must match metadata.namespace"));
        }
    }
    if local && !other.is_null() {
        let path = Path::root("spec.nonResourceAttributes");
        errors.push(FieldError::invalid(
            &path,
            other.clone(),
            "disallowed on this kind of request",
        ));
    }
    errors
}

/// What is told of a selector of which something could not be understood.
fn ignored(selector: &Value, name: &str) -> Option<String> {
    let labels = name == "labelSelector";
    let known = |requirement: &Value| match requirement.text("operator") {
        "In" | "NotIn" => labels || requirement.list("values").len() == 1,
        "Exists" | "DoesNotExist" => labels,
        _ => false,
    };
    let raw = selector.text("rawSelector");
    if labels && !raw.is_empty() && labels::Selector::parse(raw).is_err() {
        return Some(format!("spec.resourceAttributes.{name} ignored due to parse error"));
    }
    let all = selector["requirements"].as_array()?;
    let unknown = all.iter().filter(|requirement| !known(requirement)).count();
    let partially = if unknown < all.len() { "partially " } else { "" };
    (unknown > 0)
        .then(|| format!("spec.resourceAttributes.{name} {partially}ignored due to parse error"))
}

/// A requirement of a selector; operators that are not known are for others to judge.
fn validate_requirement(requirement: &Value, labels: bool, path: &Path, errors: &mut Errors) {
    let key = requirement.text("key");
    if !labels && key.is_empty() {
        errors.required(&path.child("key"), "must be specified");
    }
    let values = path.child("values");
    match (requirement.text("operator"), requirement.list("values").is_empty()) {
        ("In" | "NotIn", true) => {
            errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        ("Exists" | "DoesNotExist", false) => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&values, detail);
        }
        _ => {}
    }
    if labels {
        label_name(key, &path.child("key"), errors);
        for (at, value) in requirement.texts("values").enumerate() {
            errors.messages(&values.index(at), value, names::label_value(value));
        }
    }
}

fn validate_selector(selector: &Value, labels: bool, path: &Path) -> Errors {
    let mut errors = Errors::new();
    if selector.is_null() {
        return errors;
    }
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    let any = selector["requirements"].as_array().is_some_and(|list| !list.is_empty());
    let place = path.child("requirements");
    match (raw.is_empty(), any) {
        (false, true) => {
            let detail = "may not specified at the same time as requirements";
            errors.invalid(&path.child("rawSelector"), raw, detail);
        }
        (true, false) => {
            let detail =
                format!("when {path} is specified, requirements or rawSelector is required");
            errors.required(&place, &detail);
        }
        _ => {}
    }
    for (at, requirement) in selector.list("requirements").iter().enumerate() {
        validate_requirement(requirement, labels, &place.index(at), &mut errors);
    }
    errors
}

/// Whom a SubjectAccessReview asks about.
fn subject(spec: &Value) -> UserInfo {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().map(|list| list.iter().map(text).collect()).unwrap_or_default()
    };
    let none = Map::new();
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .unwrap_or(&none)
        .iter()
        .map(|(key, values)| (key.clone(), list(values)))
        .collect();
    UserInfo {
        name: text(&spec["user"]),
        uid: text(&spec["uid"]),
        groups: list(&spec["groups"]),
        extra,
    }
}

/// The request that it asks about.
fn question(spec: &Value) -> RequestInfo {
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |from: &Value, field: &str| from[field].as_str().unwrap_or_default().to_owned();
    if resource.is_null() {
        return RequestInfo {
            verb: text(other, "verb"),
            path: text(other, "path"),
            ..RequestInfo::default()
        };
    }
    let raw = |selector: &str| resource[selector]["rawSelector"].as_str().map(ToOwned::to_owned);
    RequestInfo {
        verb: text(resource, "verb"),
        is_resource: true,
        group: text(resource, "group"),
        version: text(resource, "version"),
        namespace: text(resource, "namespace"),
        resource: text(resource, "resource"),
        subresource: text(resource, "subresource"),
        name: text(resource, "name"),
        selectors: (raw("labelSelector"), raw("fieldSelector").or_else(|| requirements(resource))),
        ..RequestInfo::default()
    }
}

/// Field requirements as a raw selector, as far as there is one for them. Leaving one out only asks
/// for more than was meant.
fn requirements(resource: &Value) -> Option<String> {
    let list = resource["fieldSelector"]["requirements"].as_array()?;
    let terms: Vec<String> = list
        .iter()
        .filter_map(|requirement| {
            let operator = match requirement["operator"].as_str()? {
                "In" => "=",
                "NotIn" => "!=",
                _ => return None,
            };
            let [value] = requirement["values"].as_array()?.as_slice() else { return None };
            Some(format!("{}{operator}{}", requirement["key"].as_str()?, value.as_str()?))
        })
        .collect();
    (!terms.is_empty()).then(|| terms.join(","))
}
