//! What PodDisruptionBudgets would rather keep. Preemption respects them where it can.

use std::{collections::BTreeSet, sync::Arc};

use apimachinery::{Object, selector::labels::Selector};
use client::informer::parse_or_warn;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::node::Placed;

/// A PodDisruptionBudget as preemption counts.
#[derive(Clone, Debug)]
pub struct Budget {
    namespace: Box<str>,
    selector: Selector,
    /// How many pods may go.
    allowed: i32,
    /// Pods whose eviction has been taken into account already.
    disrupted: BTreeSet<String>,
}

impl Budget {
    /// Reads a budget; none if it covers nothing.
    pub(crate) fn read(object: &Object) -> Option<Self> {
        let budget: PodDisruptionBudget = parse_or_warn(object)?;
        let selector = serde_json::to_value(budget.spec?.selector?).ok()?;
        // An empty selector, which elsewhere stands for all pods, stands for none here.
        let selector = Selector::from_object(&selector).ok().filter(|s| !s.is_everything())?;
        let status = budget.status.unwrap_or_default();
        Some(Self {
            namespace: object.key.namespace.clone(),
            selector,
            allowed: status.disruptions_allowed.unwrap_or(0),
            disrupted: status.disrupted_pods.unwrap_or_default().into_keys().collect(),
        })
    }

    fn covers(&self, pod: &Object) -> bool {
        self.namespace == pod.key.namespace
            && self.selector.matches(pod)
            && !self.disrupted.contains(&*pod.key.name)
    }
}

/// Divides pods, which come in the order of importance, into those whose leaving would violate a
/// budget and the others.
pub(super) fn split(
    pods: Vec<Arc<Placed>>,
    budgets: &[Budget],
) -> (Vec<Arc<Placed>>, Vec<Arc<Placed>>) {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| violates(&pod.object, budgets, &mut left))
}

fn violates(pod: &Object, budgets: &[Budget], left: &mut [i32]) -> bool {
    if pod.labels.is_empty() {
        return false;
    }
    let mut covering = budgets.iter().zip(left).filter(|(budget, _)| budget.covers(pod));
    // Like upstream, not beyond the first that is used up.
    covering.any(|(_, left)| {
        *left -= 1;
        *left < 0
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{object, pod};

    fn budget(selector: Value, allowed: i32, disrupted: Value) -> Option<Budget> {
        Budget::read(&object(&json!({
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": selector},
            "status": {"disruptionsAllowed": allowed, "disruptedPods": disrupted},
        })))
    }

    fn app(allowed: i32) -> Budget {
        budget(json!({"matchLabels": {"app": "web"}}), allowed, json!({})).unwrap()
    }

    /// The names of the pods that are protected out of three, the last of them unlabelled.
    fn protected(budgets: &[Budget], namespace: &str) -> Vec<String> {
        let labelled = |name: &str, labels: Value| {
            let meta = json!({"name": name, "namespace": namespace, "labels": labels});
            Placed::new(&pod(json!({"metadata": meta})), "a")
        };
        let pods = vec![
            labelled("one", json!({"app": "web"})),
            labelled("two", json!({"app": "web", "tier": "front"})),
            labelled("three", Value::Null),
        ];
        let (protected, _) = split(pods, budgets);
        protected.iter().map(|pod| pod.object.key.name.to_string()).collect()
    }

    #[test]
    fn a_budget_protects_what_goes_beyond_it() {
        assert_eq!(protected(&[app(0)], "default"), ["one", "two"]);
        assert_eq!(protected(&[app(1)], "default"), ["two"], "the more important may go");
        assert!(protected(&[app(2)], "default").is_empty());
        assert!(protected(&[app(0)], "other").is_empty(), "another namespace");
    }

    #[test]
    fn each_of_several_budgets_counts() {
        let front = budget(json!({"matchLabels": {"tier": "front"}}), 0, json!({})).unwrap();
        assert_eq!(protected(&[app(9), front], "default"), ["two"]);
    }

    #[test]
    fn an_eviction_that_is_under_way_is_not_counted_twice() {
        let under_way = json!({"one": "2026-01-01T00:00:00Z"});
        let selector = json!({"matchLabels": {"app": "web"}});
        assert_eq!(protected(&[budget(selector, 0, under_way).unwrap()], "default"), ["two"]);
    }

    #[test]
    fn a_budget_without_requirements_covers_nothing() {
        assert!(budget(json!({}), 0, json!({})).is_none());
        assert!(budget(Value::Null, 0, json!({})).is_none());
    }
}
