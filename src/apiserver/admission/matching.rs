//! Which webhooks and policies a request is the business of: rules, namespace and object selectors.

use std::sync::{Arc, OnceLock};

use apimachinery::{GroupVersionKind, Status, selector::labels::Selector};
use futures::future;
use serde_json::{Value, json};

use super::{AdmissionRequest, Call};
use crate::{
    kinds::value::Fields as _,
    registry::{
        convert,
        resource::{Endpoint, Resource},
    },
};

/// The group of webhooks and policies.
pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// Configurations of admission itself are nobody's business: a webhook could not be removed else.
const EXEMPT: [&str; 6] = [
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// How a webhook or policy wants to see the request that it is asked about.
pub(super) struct Matched {
    /// The version of the resource that its rules name, where the request has an object of the
    /// resource itself.
    pub(super) endpoint: Option<Endpoint>,
    /// That version.
    pub(super) version: String,
}

impl Matched {
    /// The kind of the object as it is shown.
    pub(super) fn kind<'a>(&'a self, request: &'a AdmissionRequest<'_>) -> &'a GroupVersionKind {
        self.endpoint.as_ref().map_or(request.kind, |endpoint| &endpoint.version().gvk)
    }

    /// An object and the one it replaces, of the version that is wanted.
    ///
    /// # Errors
    /// When one cannot be had in that version.
    pub(super) async fn versions(
        &self,
        call: &Call<'_>,
        object: &Value,
    ) -> Result<(Value, Value), Status> {
        let version = async |value: &Value| match (&self.endpoint, value) {
            (_, Value::Null) | (None, _) => Ok(value.clone()),
            (Some(endpoint), value) => {
                convert::from_storage(call.server, endpoint, value.clone()).await
            }
        };
        future::try_join(version(object), version(call.request.old())).await
    }
}

/// The endpoint of a resource at one of its versions.
fn endpoint_at(resource: &Arc<Resource>, version: &str) -> Option<Endpoint> {
    let at = resource.versions.iter().position(|known| *known.gvk.version == *version)?;
    Some(Endpoint::new(resource.clone(), at))
}

/// Whether no webhook or policy is asked about the request.
pub(super) fn is_exempt(request: &AdmissionRequest<'_>) -> bool {
    request.info.group == GROUP && EXEMPT.contains(&request.info.resource.as_str())
}

/// Whether and how `hook` is asked about the request, by rules of its own.
///
/// # Errors
/// 500 when a selector cannot be read, or the namespace is not there.
pub(super) fn find(
    call: &Call<'_>,
    hook: &Value,
    rules: &[Value],
    object: &Value,
) -> Result<Option<Matched>, Status> {
    let request = call.request;
    let info = request.info;
    let table = call.server.resources.table();
    let endpoint = table.endpoint(&info.group, &info.version, &info.resource).cloned();
    drop(table);
    let Some(endpoint) = endpoint else { return Ok(None) };
    let matches = |version: &str| rules.iter().any(|rule| rule_matches(rule, request, version));
    let version = if matches(&info.version) {
        Some(info.version.clone())
    } else if hook.text("matchPolicy") == "Exact" {
        None
    } else {
        let others = endpoint.resource.versions.iter().map(|it| it.gvk.version.to_string());
        others.into_iter().find(|version| matches(version))
    };
    let Some(version) = version else { return Ok(None) };
    if !namespace_matches(call, hook, object)? || !object_matches(hook, object, request.old())? {
        return Ok(None);
    }
    // A subresource may have an object of another kind (a Scale, a binding), which has one version.
    let own = object_is_of(&endpoint, if object.is_null() { request.old() } else { object });
    let endpoint = if own { endpoint_at(&endpoint.resource, &version) } else { None };
    Ok(Some(Matched { endpoint, version }))
}

/// Whether and how the request is the business of a policy with these constraints, or of a binding
/// with these; a binding may have no rules.
///
/// # Errors
/// As [`find`].
pub(super) fn constrained(
    call: &Call<'_>,
    constraints: &Value,
    object: &Value,
) -> Result<Option<Matched>, Status> {
    static ANY: OnceLock<Vec<Value>> = OnceLock::new();
    let excluded = constraints.list("excludeResourceRules");
    if !excluded.is_empty() && find(call, constraints, excluded, object)?.is_some() {
        return Ok(None);
    }
    let rules = match constraints.list("resourceRules") {
        [] => ANY.get_or_init(|| {
            vec![json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
                "resources": ["*/*"]})]
        }),
        rules => rules,
    };
    find(call, constraints, rules, object)
}

fn object_is_of(endpoint: &Endpoint, object: &Value) -> bool {
    object.text("kind") == &*endpoint.resource.storage.kind
}

fn rule_matches(rule: &Value, request: &AdmissionRequest<'_>, version: &str) -> bool {
    let info = request.info;
    let has = |list: &str, wanted: &str| {
        let mut texts = rule.texts(list);
        texts.any(|known| known == "*" || known == wanted)
    };
    let cluster = info.namespace.is_empty() || info.resource == "namespaces";
    let in_scope = match rule.text("scope") {
        "Namespaced" => !cluster,
        "Cluster" => cluster,
        _ => true,
    };
    in_scope
        && has("operations", request.operation.as_str())
        && has("apiGroups", &info.group)
        && has("apiVersions", version)
        && (rule.list("resourceNames").is_empty()
            || rule.texts("resourceNames").any(|name| name == info.name))
        && rule.texts("resources").any(|resource| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            (resource == "*" || resource == info.resource)
                && (subresource == "*" || subresource == info.subresource)
        })
}

fn selector(hook: &Value, field: &str) -> Result<Option<Selector>, Status> {
    let Some(selector) = hook.sub(field) else { return Ok(None) };
    let selector = Selector::from_object(selector).map_err(Status::internal)?;
    Ok((!selector.is_everything()).then_some(selector))
}

fn labels(object: &Value) -> Vec<(&str, &str)> {
    let entries = object["metadata"].entries("labels");
    entries.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

fn namespace_matches(call: &Call<'_>, hook: &Value, object: &Value) -> Result<bool, Status> {
    let Some(selector) = selector(hook, "namespaceSelector")? else { return Ok(true) };
    let info = call.request.info;
    if info.resource == "namespaces" && info.group.is_empty() {
        let namespace = if object.is_null() { call.request.old() } else { object };
        return Ok(selector.matches(labels(namespace).as_slice()));
    }
    if info.namespace.is_empty() {
        return Ok(true);
    }
    let Some(namespace) = call.get("", "namespaces", "", &info.namespace) else {
        return Err(Status::not_found(
            &apimachinery::GroupResource::new("", "namespaces"),
            &info.namespace,
        ));
    };
    Ok(selector.matches(labels(&namespace).as_slice()))
}

fn object_matches(hook: &Value, object: &Value, old: &Value) -> Result<bool, Status> {
    let Some(selector) = selector(hook, "objectSelector")? else { return Ok(true) };
    let matches = |it: &Value| it.is_object() && selector.matches(labels(it).as_slice());
    Ok(matches(object) || matches(old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::Operation,
        request::{RequestInfo, UserInfo},
    };

    fn asked(rule: Value, resource: &str, subresource: &str, namespace: &str) -> bool {
        let info = RequestInfo {
            group: "apps".into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            ..RequestInfo::default()
        };
        let kind = apimachinery::GroupVersionKind::new("apps", "v1", "Deployment");
        let request = AdmissionRequest {
            user: &UserInfo::default(),
            info: &info,
            operation: Operation::Update,
            kind: &kind,
            old: None,
            dry_run: false,
            options: &Value::Null,
        };
        rule_matches(&rule, &request, "v1")
    }

    #[test]
    fn rules_name_operations_groups_versions_resources_and_scope() {
        let rule = |resources: &str, scope: &str| {
            json!({"operations": ["UPDATE"], "apiGroups": ["*"], "apiVersions": ["v1"],
                "resources": [resources], "scope": scope})
        };
        assert!(asked(rule("deployments", "*"), "deployments", "", "n"));
        assert!(!asked(rule("deployments", "*"), "deployments", "status", "n"));
        assert!(asked(rule("deployments/status", "*"), "deployments", "status", "n"));
        assert!(asked(rule("*/*", "Namespaced"), "deployments", "scale", "n"));
        assert!(asked(rule("deployments/*", "*"), "deployments", "", "n"));
        assert!(asked(rule("*", "*"), "deployments", "", "n"));
        assert!(!asked(rule("*", "*"), "deployments", "scale", "n"));
        assert!(!asked(rule("*", "Cluster"), "deployments", "", "n"));
        assert!(asked(rule("*", "Cluster"), "nodes", "", ""));
        let create = json!({"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": ["*"]});
        assert!(!asked(create, "deployments", "", "n"));
    }
}
