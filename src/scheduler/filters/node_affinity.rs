//! Node selectors and required node affinity.

use apimachinery::selector::labels::{Operator, Requirement};
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm};

use crate::{
    cache::NodeInfo,
    framework::{ClusterEvent, Filter, Rejection},
    pod::PodInfo,
};

/// The node has the labels that the pod requires.
pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(spec) = pod.spec() else { return Ok(()) };
        let labels = node.node.metadata.labels.as_ref();
        let selected = spec.node_selector.iter().flatten().all(|(key, value)| {
            labels.and_then(|labels| labels.get(key)).is_some_and(|found| found == value)
        });
        let required =
            spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()).and_then(
                |affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref(),
            );
        let matched = required.is_none_or(|selector| {
            selector.node_selector_terms.iter().any(|term| matches_term(term, &node.node))
        });
        if selected && matched {
            Ok(())
        } else {
            Err(Rejection::final_("node(s) didn't match Pod's node affinity/selector"))
        }
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded | ClusterEvent::NodeChanged)
    }
}

/// Whether `node` fulfils all requirements of `term`. A term without any matches nothing.
pub(crate) fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let empty = std::collections::BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let by_name = [("metadata.name", node.metadata.name.as_deref().unwrap_or_default())];
    expressions.iter().all(|r| requirement(r).is_some_and(|r| r.matches(labels)))
        && fields.iter().all(|r| requirement(r).is_some_and(|r| r.matches(&by_name[..])))
}

fn requirement(given: &NodeSelectorRequirement) -> Option<Requirement> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(term: serde_json::Value) -> bool {
        let node = json!({"metadata": {"name": "one", "labels": {"zone": "a", "size": "5"}}});
        let node = serde_json::from_value(node).unwrap();
        matches_term(&serde_json::from_value(term).unwrap(), &node)
    }

    #[test]
    fn terms_match_labels_and_the_name() {
        let by = |key: &str, operator: &str, values: &[&str]| {
            check(
                json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
            )
        };
        assert!(by("zone", "In", &["a", "b"]));
        assert!(!by("zone", "NotIn", &["a"]));
        assert!(by("other", "NotIn", &["a"]));
        assert!(by("zone", "Exists", &[]));
        assert!(by("other", "DoesNotExist", &[]));
        assert!(by("size", "Gt", &["4"]) && !by("size", "Lt", &["4"]));
        let field = json!({"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["one"]}]});
        assert!(check(field));
        assert!(!check(json!({})), "an empty term matches nothing");
    }
}
