//! Roles and bindings of the system: created when missing, and given back what they lack, unless
//! their owner has turned that off by the annotation.

use apimachinery::Status;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::{
    policy::{self, Policy},
    write::{create, update},
};
use crate::{
    Shared,
    authorization::rules::{PolicyRule, missing},
};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) async fn reconcile(server: &Shared) -> Result<(), Status> {
    // At once, so that the store commits them in few batches.
    try_join_all(policy::all().into_iter().map(|policy| one(server, policy))).await.map(drop)
}

async fn one(server: &Shared, policy: Policy) -> Result<(), Status> {
    let Policy { resource, object } = policy;
    let stored = create(server, GROUP, resource, object.clone()).await?;
    update(server, GROUP, resource, stored, |current| repair(current, &object)).await
}

/// Adds to `current` what `wanted` has and it has not; whether that was anything.
fn repair(current: &mut Value, wanted: &Value) -> bool {
    let update =
        current.pointer("/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate");
    if update.is_some_and(|value| value == "false") {
        return false;
    }
    let mut changed = false;
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            if current["metadata"][map].get(key).is_none() {
                current["metadata"][map][key] = value.clone();
                changed = true;
            }
        }
    }
    let selectors = "/aggregationRule/clusterRoleSelectors";
    if let Some(wanted) = wanted.pointer(selectors)
        && current.pointer(selectors).is_none()
    {
        current["aggregationRule"] = json!({ "clusterRoleSelectors": wanted });
        changed = true;
    }
    // The rules of an aggregated role are the aggregating controller's.
    if current["aggregationRule"].is_null() {
        let rules = |role: &Value| -> Vec<PolicyRule> {
            serde_json::from_value(role["rules"].clone()).unwrap_or_default()
        };
        for rule in missing(&rules(current), &rules(wanted)) {
            append(current, "rules", rule_value(&rule));
            changed = true;
        }
    }
    for subject in wanted["subjects"].as_array().into_iter().flatten() {
        if !current["subjects"].as_array().is_some_and(|list| list.contains(subject)) {
            append(current, "subjects", subject.clone());
            changed = true;
        }
    }
    changed
}

fn append(object: &mut Value, field: &str, item: Value) {
    match object[field].as_array_mut() {
        Some(list) => list.push(item),
        None => object[field] = json!([item]),
    }
}

fn rule_value(rule: &PolicyRule) -> Value {
    let PolicyRule { verbs, api_groups, resources, names, urls } = rule;
    let mut value = json!({ "verbs": verbs });
    let lists = [
        ("apiGroups", api_groups),
        ("resources", resources),
        ("resourceNames", names),
        ("nonResourceURLs", urls),
    ];
    for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        value[field] = json!(list);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> Value {
        policy::all().into_iter().find(|p| p.object["metadata"]["name"] == name).unwrap().object
    }

    #[test]
    fn roles_get_back_what_was_taken_from_them() {
        let wanted = policy("system:kube-scheduler");
        let mut current = wanted.clone();
        assert!(!repair(&mut current, &wanted), "nothing to do");

        current["rules"].as_array_mut().unwrap().truncate(2);
        let own = json!({"verbs": ["get"], "apiGroups": ["acme.com"], "resources": ["x"]});
        append(&mut current, "rules", own.clone());
        assert!(repair(&mut current, &wanted));
        assert!(!repair(&mut current, &wanted));
        assert!(current["rules"].as_array().unwrap().contains(&own), "additions are kept");
    }

    #[test]
    fn whoever_turns_it_off_is_left_alone() {
        let wanted = policy("cluster-admin");
        let mut current = wanted.clone();
        current["rules"] = json!([]);
        current["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] =
            json!("false");
        assert!(!repair(&mut current, &wanted));
    }

    #[test]
    fn aggregated_rules_are_not_touched() {
        let wanted = policy("view");
        let mut current = wanted.clone();
        current["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        assert!(!repair(&mut current, &wanted));
    }
}
