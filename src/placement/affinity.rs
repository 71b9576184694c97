//! Node selectors and node affinity.

use std::collections::BTreeMap;

use apimachinery::selector::labels::{Operator, Requirement};
use k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
};

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// What selectors see of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.labels`.
    pub labels: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Node> for NodeView<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            name: node.metadata.name.as_deref().unwrap_or_default(),
            labels: node.metadata.labels.as_ref().unwrap_or(&NO_LABELS),
        }
    }
}

/// Whether the node has the labels that the pod selects and is among those that its required
/// affinity names.
pub fn admits<'a>(spec: &PodSpec, node: impl Into<NodeView<'a>>) -> bool {
    let required = node_affinity(spec)
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let node = node.into();
    spec.node_selector.as_ref().is_none_or(|labels| has_labels(labels, node))
        && required.is_none_or(|selector| matches(selector, node))
}

/// The sum of the weights of the pod's preferred terms that the node matches.
pub fn preference<'a>(spec: &PodSpec, node: impl Into<NodeView<'a>>) -> i64 {
    let preferred = node_affinity(spec)
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let node = node.into();
    preferred
        .unwrap_or_default()
        .iter()
        .filter(|term| matches_term(&term.preference, node))
        .map(|term| i64::from(term.weight))
        .sum()
}

fn node_affinity(spec: &PodSpec) -> Option<&NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}

/// Whether the node has all of `labels`: what `spec.nodeSelector` asks.
pub fn has_labels<'a>(labels: &BTreeMap<String, String>, node: impl Into<NodeView<'a>>) -> bool {
    let node = node.into();
    labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

/// Whether the node matches any term of the selector.
pub fn matches<'a>(selector: &NodeSelector, node: impl Into<NodeView<'a>>) -> bool {
    let node = node.into();
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

/// Whether the node meets all requirements of the term. A term without any matches nothing, and so
/// does one that cannot be understood.
fn matches_term(term: &NodeSelectorTerm, node: NodeView<'_>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|given| on_labels(given).is_some_and(|r| r.matches(node.labels)))
        && fields.iter().all(|given| meets_field(given, node))
}

fn on_labels(given: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match given.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    Requirement::new(&given.key, operator, given.values.clone().unwrap_or_default()).ok()
}

/// Fields are compared with one value and know only these two operators. Not as labels: a node's
/// name may be longer than a label's value.
fn meets_field(given: &NodeSelectorRequirement, node: NodeView<'_>) -> bool {
    let own = if given.key == "metadata.name" { node.name } else { "" };
    match (given.operator.as_str(), given.values.as_deref()) {
        ("In", Some([wanted])) => own == wanted,
        ("NotIn", Some([unwanted])) => own != unwanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str) -> Node {
        let labels = json!({"zone": "a", "size": "5"});
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
    }

    fn check(term: Value) -> bool {
        let selector = json!({"nodeSelectorTerms": [term]});
        matches(&serde_json::from_value(selector).unwrap(), &node("one"))
    }

    fn by_label(key: &str, operator: &str, values: &[&str]) -> bool {
        check(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
    }

    fn by_field(operator: &str, values: &[&str]) -> bool {
        let field = json!({"key": "metadata.name", "operator": operator, "values": values});
        check(json!({"matchFields": [field]}))
    }

    #[test]
    fn terms_match_labels() {
        assert!(by_label("zone", "In", &["a", "b"]));
        assert!(!by_label("zone", "NotIn", &["a"]));
        assert!(by_label("other", "NotIn", &["a"]));
        assert!(by_label("zone", "Exists", &[]));
        assert!(by_label("other", "DoesNotExist", &[]));
        assert!(by_label("size", "Gt", &["4"]) && !by_label("size", "Lt", &["4"]));
        assert!(!by_label("zone", "Resembles", &["a"]), "what is not understood matches nothing");
    }

    #[test]
    fn terms_match_the_name() {
        assert!(by_field("In", &["one"]) && !by_field("NotIn", &["one"]));
        assert!(!by_field("In", &["two"]) && by_field("NotIn", &["two"]));
        assert!(!by_field("In", &["one", "two"]), "one value only");
        assert!(!by_field("Exists", &[]), "no other operator");
        let long = "n".repeat(70);
        let field = json!({"key": "metadata.name", "operator": "In", "values": [long]});
        let selector = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        let selector = serde_json::from_value(selector).unwrap();
        assert!(matches(&selector, &node(&long)), "longer than a label's value");
    }

    #[test]
    fn terms_are_alternatives_and_an_empty_one_matches_nothing() {
        assert!(!check(json!({})));
        let of = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        let selector = json!({"nodeSelectorTerms": [{}, of("b"), of("a")]});
        assert!(matches(&serde_json::from_value(selector).unwrap(), &node("one")));
    }

    #[test]
    fn a_pod_asks_for_labels_and_for_required_terms() {
        let spec = |selector: Value, zone: &str| -> PodSpec {
            let term =
                json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
            let required = json!({"nodeSelectorTerms": [term]});
            let affinity = json!({"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": required}});
            let spec = json!({"containers": [], "nodeSelector": selector, "affinity": affinity});
            serde_json::from_value(spec).unwrap()
        };
        let node = node("one");
        assert!(admits(&PodSpec::default(), &node));
        assert!(admits(&spec(json!({"size": "5"}), "a"), &node));
        assert!(!admits(&spec(json!({"size": "6"}), "a"), &node));
        assert!(!admits(&spec(json!({"size": "5"}), "b"), &node));
    }

    #[test]
    fn preferred_terms_that_match_add_their_weights() {
        let term = |zone: &str, weight: i32| {
            let expression = json!({"key": "zone", "operator": "In", "values": [zone]});
            json!({"weight": weight, "preference": {"matchExpressions": [expression]}})
        };
        let terms = json!([term("a", 3), term("b", 5), term("a", 7)]);
        let affinity = json!({"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": terms}});
        let spec = json!({"containers": [], "affinity": affinity});
        assert_eq!(preference(&serde_json::from_value(spec).unwrap(), &node("one")), 10);
    }
}
