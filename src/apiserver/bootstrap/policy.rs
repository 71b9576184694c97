//! The RBAC policy of a new cluster: upstream's, read from the table in
//! `embedded/bootstrap/rbac.txt`, and our own parts' in `knarr.txt` beside it.

use serde_json::{Map, Value, json};

use crate::authorization::rules::PolicyRule;

static TABLES: [&str; 2] = [
    include_str!("../../../embedded/bootstrap/rbac.txt"),
    include_str!("../../../embedded/bootstrap/knarr.txt"),
];

/// One role or binding: its resource and the object as upstream creates it.
pub(super) struct Policy {
    pub(super) resource: &'static str,
    pub(super) object: Value,
}

/// All roles and bindings, in upstream's order.
pub(super) fn all() -> Vec<Policy> {
    let mut all: Vec<Policy> = Vec::new();
    for line in TABLES.iter().flat_map(|table| table.lines()) {
        match line.strip_prefix("  ") {
            None => all.push(head(line)),
            Some(fact) => {
                if let Some(last) = all.last_mut() {
                    add(&mut last.object, fact);
                }
            }
        }
    }
    all
}

/// The rules of a cluster role.
pub(super) fn rules_of(name: &str) -> Vec<PolicyRule> {
    let role = all().into_iter().find(|policy| {
        policy.resource == "clusterroles" && policy.object["metadata"]["name"] == name
    });
    role.and_then(|role| serde_json::from_value(role.object["rules"].clone()).ok())
        .unwrap_or_default()
}

fn head(line: &str) -> Policy {
    let words: Vec<&str> = line.split(' ').collect();
    let mut metadata = json!({
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    let (resource, kind, names) = match words[0] {
        "clusterrole" => ("clusterroles", "ClusterRole", &words[1..]),
        "clusterrolebinding" => ("clusterrolebindings", "ClusterRoleBinding", &words[1..]),
        "role" => ("roles", "Role", &words[2..]),
        _ => ("rolebindings", "RoleBinding", &words[2..]),
    };
    if matches!(kind, "Role" | "RoleBinding") {
        metadata["namespace"] = json!(words[1]);
    }
    metadata["name"] = json!(names[0]);
    let mut object =
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata});
    match names {
        [_, role_kind, role] => {
            object["roleRef"] =
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role});
        }
        _ => object["rules"] = json!([]),
    }
    Policy { resource, object }
}

fn add(object: &mut Value, fact: &str) {
    let Some((what, text)) = fact.split_once(' ') else { return };
    let pair = text.split_once('=').unwrap_or_default();
    match what {
        "label" => object["metadata"]["labels"][pair.0] = json!(pair.1),
        "annotation" => object["metadata"]["annotations"][pair.0] = json!(pair.1),
        "aggregate" => {
            object["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {pair.0: pair.1}}]});
            // Filled by the controller that aggregates.
            object["rules"] = Value::Null;
        }
        "rule" => push(object, "rules", rule(text)),
        "subject" => {
            let words: Vec<&str> = text.split(' ').collect();
            let subject = match words.as_slice() {
                [kind, name, namespace] => {
                    json!({"kind": kind, "name": name, "namespace": namespace})
                }
                [kind, name] => {
                    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
                }
                _ => return,
            };
            push(object, "subjects", subject);
        }
        _ => {}
    }
}

fn push(object: &mut Value, field: &str, item: Value) {
    match object[field].as_array_mut() {
        Some(list) => list.push(item),
        None => object[field] = json!([item]),
    }
}

/// `verbs=get,list groups=,apps resources=pods`.
fn rule(text: &str) -> Value {
    let mut rule = Map::new();
    for part in text.split(' ') {
        let Some((name, list)) = part.split_once('=') else { continue };
        let field = match name {
            "groups" => "apiGroups",
            "names" => "resourceNames",
            "urls" => "nonResourceURLs",
            same => same,
        };
        rule.insert(field.to_owned(), list.split(',').collect());
    }
    Value::Object(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_upstreams_policy() {
        let all = all();
        let count = |resource| all.iter().filter(|policy| policy.resource == resource).count();
        // Those of upstream, and the one of the edge.
        assert_eq!(count("clusterroles"), 73 + 1);
        assert_eq!(count("clusterrolebindings"), 54 + 1);
        assert_eq!(count("roles"), 7);
        assert!(all.iter().all(|policy| policy.object["metadata"]["name"].is_string()));
        let bindings = all.iter().filter(|policy| policy.resource.ends_with("bindings"));
        assert!(bindings.clone().all(|policy| policy.object["roleRef"]["name"].is_string()));
        let bare = bindings.filter(|policy| !policy.object["subjects"].is_array());
        assert_eq!(bare.count(), 1, "system:node is bound to nobody");
    }

    #[test]
    fn nodes_have_their_rules() {
        let rules = rules_of("system:node");
        assert!(rules.iter().any(|rule| rule.resources.iter().any(|r| &**r == "nodes/status")));
        assert!(rules.iter().any(|rule| rule.api_groups.iter().any(|group| group.is_empty())));
    }
}
