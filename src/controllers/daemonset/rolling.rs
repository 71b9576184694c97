//! Rolling updates: which old pods make way for new ones, within `maxUnavailable` and `maxSurge`.

use k8s_openapi::{api::apps::v1::DaemonSetSpec, apimachinery::pkg::util::intstr::IntOrString};

use super::{
    placement::{NodeFacts, Placement, Verdict},
    pods::{Current, Plan, PodsByNode},
};
use crate::{
    counts::{Round, scaled},
    pod::PodFacts,
};

/// The bounds of an update, in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) surge: usize,
    pub(super) unavailable: usize,
}

/// The bounds of `spec` over `desired` nodes; `None` where pods are updated only as they are
/// deleted. Both round up, and one of them is at least 1, or nothing could ever move.
pub(super) fn bounds(spec: &DaemonSetSpec, desired: usize) -> Option<Bounds> {
    let strategy = spec.update_strategy.as_ref()?;
    if strategy.type_.as_deref() != Some("RollingUpdate") {
        return None;
    }
    let rolling = strategy.rolling_update.as_ref();
    let total = i32::try_from(desired).unwrap_or(i32::MAX);
    let resolve = |value: Option<&IntOrString>| {
        let count = value.map_or(0, |value| scaled(value, total, Round::Up));
        usize::try_from(count).unwrap_or(0)
    };
    let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()));
    let unavailable = resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()));
    if surge == 0 && unavailable == 0 {
        return Some(Bounds { surge, unavailable: 1 });
    }
    Some(Bounds { surge, unavailable })
}

/// Whether nodes may have an old and a new pod for a while.
pub(super) fn surges(spec: &DaemonSetSpec) -> bool {
    bounds(spec, 1).is_some_and(|bounds| bounds.surge > 0)
}

/// The next step of an update.
pub(super) fn step(
    nodes: &[NodeFacts],
    pods: &PodsByNode,
    placement: &Placement,
    spec: &DaemonSetSpec,
    current: &Current<'_>,
) -> Plan {
    let wanting: Vec<&str> = nodes
        .iter()
        .filter(|node| placement.verdict(node) == Verdict::Run)
        .map(NodeFacts::name)
        .collect();
    match bounds(spec, wanting.len()) {
        None => Plan::default(),
        Some(Bounds { surge: 0, unavailable }) => {
            let empty = wanting.iter().filter(|name| !pods.contains_key(**name)).count();
            replace(pods, unavailable, empty, current)
        }
        Some(Bounds { surge, .. }) => overlap(pods, surge, &wanting, current),
    }
}

/// The new and the old pod of a node that are to stay, and whether there is no more than one of
/// each.
fn pair<'a>(
    pods: &'a [PodFacts],
    current: &Current<'_>,
) -> Option<(Option<&'a PodFacts>, Option<&'a PodFacts>)> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !pod.object.deleting) {
        let place = if current.made(pod) { &mut new } else { &mut old };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// Without surge: deletes old pods; the next pass puts new ones in their place. `empty` nodes have
/// no pod at all. Old pods that do not serve go in any case.
fn replace(pods: &PodsByNode, limit: usize, empty: usize, current: &Current<'_>) -> Plan {
    let (mut plan, mut candidates, mut unavailable) = (Plan::default(), Vec::new(), empty);
    for here in pods.values() {
        match pair(here, current) {
            None | Some((None, None) | (Some(_), Some(_))) => unavailable += 1,
            Some((Some(new), None)) if current.available(new) => {}
            Some((Some(_), None)) => unavailable += 1,
            Some((None, Some(old))) if current.available(old) => {
                candidates.push(old.object.clone());
            }
            Some((None, Some(old))) => {
                plan.delete.push(old.object.clone());
                unavailable += 1;
            }
        }
    }
    plan.delete.extend(candidates.into_iter().take(limit.saturating_sub(unavailable)));
    plan
}

/// With surge: creates new pods beside up to `limit` old ones that serve, and deletes these once the
/// new ones do.
fn overlap(pods: &PodsByNode, limit: usize, wanting: &[&str], current: &Current<'_>) -> Plan {
    let (mut plan, mut candidates, mut misplaced) = (Plan::default(), Vec::new(), Vec::new());
    let (mut surging, mut available) = (0_usize, 0_usize);
    for (node, here) in pods {
        let Some((new, old)) = pair(here, current) else {
            surging += 1;
            continue;
        };
        if old.or(new).is_some_and(|pod| current.available(pod)) {
            available += 1;
        }
        let Some(old) = old else { continue };
        let wanted = wanting.contains(&&**node);
        match new {
            Some(new) if current.available(new) => plan.delete.push(old.object.clone()),
            Some(_) => surging += 1,
            None => match (current.available(old), wanted) {
                (true, true) => candidates.push(node.clone()),
                (true, false) => misplaced.push(old.object.clone()),
                (false, true) => plan.create.push(node.clone()),
                (false, false) => plan.delete.push(old.object.clone()),
            },
        }
    }
    // Pods on nodes that no longer want one go only as others serve in their stead.
    plan.delete.extend(misplaced.into_iter().take(available.saturating_sub(wanting.len())));
    plan.create.extend(candidates.into_iter().take(limit.saturating_sub(surging)));
    plan
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::{Value, json};

    use super::{
        super::pods::{
            by_node,
            tests::{current, node, pod},
        },
        *,
    };

    fn spec(rolling: Value) -> DaemonSetSpec {
        serde_json::from_value(json!({"selector": {}, "template": {},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}))
        .unwrap()
    }

    fn run(rolling: Value, pods: Vec<PodFacts>) -> (String, String) {
        let nodes = ["a", "b", "c", "d"].map(|name| node(name, None));
        let placement = Placement::of(&PodSpec::default());
        let plan = step(&nodes, &by_node(pods), &placement, &spec(rolling), &current());
        let deleted: Vec<&str> = plan.delete.iter().map(|pod| &*pod.key.name).collect();
        (plan.create.join(" "), deleted.join(" "))
    }

    fn old(phases: [&str; 4]) -> Vec<PodFacts> {
        let nodes = ["a", "b", "c", "d"];
        nodes.iter().zip(phases).map(|(node, phase)| pod(node, node, "old", phase)).collect()
    }

    #[test]
    fn bounds_round_up_and_let_something_move() {
        let of = |rolling| bounds(&spec(rolling), 4).unwrap();
        assert_eq!(of(json!({"maxUnavailable": "30%"})), Bounds { surge: 0, unavailable: 2 });
        assert_eq!(of(json!({"maxSurge": "10%"})), Bounds { surge: 1, unavailable: 0 });
        assert_eq!(of(json!({"maxUnavailable": 0})), Bounds { surge: 0, unavailable: 1 });
        let on_delete = json!({"selector": {}, "template": {},
            "updateStrategy": {"type": "OnDelete"}});
        assert_eq!(bounds(&serde_json::from_value(on_delete).unwrap(), 4), None);
    }

    #[test]
    fn as_many_old_pods_go_as_may_be_unavailable() {
        let two = || json!({"maxUnavailable": 2});
        assert_eq!(run(two(), old(["Ready"; 4])).1, "a b");
        let broken = run(two(), old(["Ready", "Running", "Ready", "Ready"]));
        assert_eq!(broken.1, "b a", "what does not serve goes first and counts");
        let mut missing = old(["Ready"; 4]);
        missing.truncate(3);
        assert_eq!(run(two(), missing).1, "a", "a node without a pod counts");
        let mut updated = old(["Ready"; 4]);
        updated[0] = pod("a", "a", "new", "Running");
        updated[1] = pod("b", "b", "new", "Ready");
        assert_eq!(run(two(), updated).1, "c", "a new pod that does not serve yet counts");
    }

    #[test]
    fn with_surge_new_pods_come_before_old_ones_go() {
        let one = || json!({"maxSurge": 1, "maxUnavailable": 0});
        assert_eq!(run(one(), old(["Ready"; 4])), ("a".to_owned(), String::new()));
        let mut pods = old(["Ready"; 4]);
        pods.push(pod("a2", "a", "new", "Running"));
        assert_eq!(run(one(), pods), (String::new(), String::new()));
        let mut pods = old(["Ready"; 4]);
        pods.push(pod("a2", "a", "new", "Ready"));
        assert_eq!(run(one(), pods), ("b".to_owned(), "a".to_owned()));
        let pods = old(["Ready", "Running", "Ready", "Ready"]);
        assert_eq!(run(one(), pods).0, "b a", "where nothing serves nothing is lost");
    }
}
