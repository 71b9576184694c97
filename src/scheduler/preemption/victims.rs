//! Which pods would have to leave one node.

use std::{cmp::Ordering, sync::Arc};

use super::budgets::{self, Budget};
use crate::{
    framework::{Failure, Rejection},
    node::{NodeInfo, Placed},
};

/// A node that could take the pod if the victims left.
pub(super) struct Candidate {
    /// Its name.
    pub(super) node: Box<str>,
    /// Who has to leave, the most important first. Never empty.
    pub(super) victims: Vec<Arc<Placed>>,
    /// How many of them a PodDisruptionBudget would rather keep.
    pub(super) violations: usize,
}

/// Finds as few and as unimportant pods on `node` as have to leave for the pod to fit.
pub(super) fn select(
    failure: &Failure<'_>,
    node: &NodeInfo,
    budgets: &[Budget],
) -> Result<Candidate, Rejection> {
    let pod = failure.pod;
    let below = |other: &&Arc<Placed>| other.priority < pod.priority();
    let mut lower: Vec<Arc<Placed>> = node.pods.iter().filter(below).cloned().collect();
    if lower.is_empty() {
        return Err(Rejection::final_("No preemption victims found for incoming pod"));
    }
    let mut node = node.clone();
    for one in &lower {
        node.remove(one.uid());
    }
    failure.plugins.filter(pod, &node).map_err(|(_, rejection)| rejection)?;

    // Then they come back as long as the pod still fits, those first that are missed most.
    lower.sort_by(|a, b| importance(a, b));
    let (protected, free) = budgets::split(lower, budgets);
    let mut victims = Vec::new();
    let mut spare = |one: Arc<Placed>| {
        node.add(one.clone());
        let fits = failure.plugins.filter(pod, &node).is_ok();
        if !fits {
            node.remove(one.uid());
            victims.push(one);
        }
        fits
    };
    let violations = protected.into_iter().map(&mut spare).filter(|spared| !spared).count();
    for one in free {
        spare(one);
    }
    victims.sort_by(|a, b| importance(a, b));
    let name = node.name();
    if victims.is_empty() {
        let reason = format!("expected at least one victim pod on node \"{name}\"");
        return Err(Rejection::final_(reason));
    }
    Ok(Candidate { node: name.into(), victims, violations })
}

/// The more important first: by priority, then by how long it has been running.
fn importance(a: &Placed, b: &Placed) -> Ordering {
    b.priority.cmp(&a.priority).then_with(|| a.start_order().cmp(&b.start_order()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        cache::Cache,
        framework::Plugins,
        pod::PodInfo,
        testing::{cluster, object, pod, urgent},
    };

    fn running(name: &str, cpu: &str, priority: i32, minute: u8) -> PodInfo {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        pod(json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [container], "priority": priority, "nodeName": "a"},
            "status": {"startTime": format!("2026-01-01T00:{minute:02}:00Z")},
        }))
    }

    fn protecting(app: &str, allowed: i32) -> Budget {
        let budget = json!({
            "metadata": {"name": app, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed},
        });
        Budget::read(&object(&budget)).unwrap()
    }

    fn node_with(pods: &[PodInfo]) -> Cache {
        let cache = cluster(&[("a", "4")]);
        for pod in pods {
            cache.put_pod(pod);
        }
        cache
    }

    /// The names of the victims and how many violate a budget.
    fn victims(
        cache: &Cache,
        pod: &PodInfo,
        budgets: &[Budget],
    ) -> Result<(Vec<String>, usize), Vec<String>> {
        let plugins = Plugins::default();
        let failure = Failure { pod, rejected: Vec::new(), plugins: &plugins, budgets: &Vec::new };
        let candidate =
            select(&failure, &cache.nodes()[0], budgets).map_err(|rejection| rejection.reasons)?;
        let names = candidate.victims.iter().map(|pod| pod.object.key.name.to_string());
        Ok((names.collect(), candidate.violations))
    }

    #[test]
    fn the_least_important_have_to_leave() {
        let cache = node_with(&[
            running("old", "1", 1, 0),
            running("new", "1", 1, 9),
            running("middling", "1", 2, 9),
            running("high", "1", 9, 9),
        ]);
        let asks = |cpu| victims(&cache, &urgent("p", cpu, 5), &[]).unwrap().0;
        assert_eq!(asks("1"), ["new"]);
        assert_eq!(asks("2"), ["old", "new"]);
        assert_eq!(asks("3"), ["middling", "old", "new"], "the most important first");
    }

    #[test]
    fn who_has_not_started_yet_leaves_first() {
        let waiting = pod(json!({"metadata": {"name": "waiting"}, "spec": {
            "nodeName": "a", "priority": 1,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}}));
        let cache = node_with(&[waiting, running("new", "2", 1, 59)]);
        assert_eq!(victims(&cache, &urgent("p", "2", 5), &[]).unwrap().0, ["waiting"]);
    }

    #[test]
    fn a_large_one_is_spared_where_a_small_one_is_enough() {
        let cache = node_with(&[running("large", "3", 1, 9), running("small", "1", 1, 0)]);
        assert_eq!(victims(&cache, &urgent("p", "1", 5), &[]).unwrap().0, ["large"]);
        let cache = node_with(&[running("large", "3", 1, 0), running("small", "1", 1, 9)]);
        assert_eq!(victims(&cache, &urgent("p", "1", 5), &[]).unwrap().0, ["small"]);
    }

    #[test]
    fn budgets_come_before_importance() {
        let pods = [running("kept", "2", 1, 9), running("free", "2", 2, 0)];
        let cache = node_with(&pods);
        let preemptor = urgent("p", "2", 5);
        let of = |budgets: &[Budget]| victims(&cache, &preemptor, budgets).unwrap();
        let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(of(&[]), (names(&["kept"]), 0));
        assert_eq!(of(&[protecting("kept", 1)]), (names(&["kept"]), 0), "one may go");
        assert_eq!(of(&[protecting("kept", 0)]), (names(&["free"]), 0));
        let both = [protecting("kept", 0), protecting("free", 0)];
        assert_eq!(of(&both), (names(&["kept"]), 1), "one has to go");
        let all = urgent("p", "4", 5);
        let (gone, violations) = victims(&cache, &all, &both[..1]).unwrap();
        assert_eq!((gone, violations), (names(&["free", "kept"]), 1));
    }

    #[test]
    fn a_node_is_no_candidate_if_the_pod_would_not_fit_anyway() {
        let cache = node_with(&[running("high", "3", 9, 0), running("low", "1", 1, 0)]);
        let preemptor = urgent("p", "2", 5);
        assert_eq!(victims(&cache, &preemptor, &[]).unwrap_err(), ["Insufficient cpu"]);
        let lowest = urgent("p", "2", 1);
        let none = ["No preemption victims found for incoming pod"];
        assert_eq!(victims(&cache, &lowest, &[]).unwrap_err(), none);
    }

    #[test]
    fn pods_leave_for_ports_too() {
        let with_port = |name: &str, priority: i32, node: Value| {
            let ports = json!([{"containerPort": 80, "hostPort": 80}]);
            pod(json!({"metadata": {"name": name}, "spec": {"nodeName": node,
                "containers": [{"name": "c", "ports": ports}], "priority": priority}}))
        };
        let cache = node_with(&[running("other", "1", 1, 0), with_port("holder", 1, json!("a"))]);
        let preemptor = with_port("p", 5, Value::Null);
        assert_eq!(victims(&cache, &preemptor, &[]).unwrap().0, ["holder"]);
    }
}
