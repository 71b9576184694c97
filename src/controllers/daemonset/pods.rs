//! A DaemonSet's pods by node, and what one pass is to do about them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apimachinery::{Key, Object};
use jiff::Timestamp;
use tokio::time::Instant;

use super::placement::{NodeFacts, Placement, Verdict, target};
use crate::pod::{Phase, PodFacts};

/// The label by which clients before ControllerRevisions told pods of the present template.
const GENERATION_LABEL: &str = "pod-template-generation";
/// The first replacement of a failed pod on a node waits for this long, each further one twice as
/// long: the kubelet may refuse every one of them.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(15 * 60);

/// Pods by the node they are on or made for, each node's oldest first.
pub(super) type PodsByNode = BTreeMap<Box<str>, Vec<PodFacts>>;

/// Groups pods. Those that are over and going concern nobody any more and are left out.
pub(super) fn by_node(pods: impl IntoIterator<Item = PodFacts>) -> PodsByNode {
    let mut nodes = PodsByNode::new();
    for pod in pods {
        if pod.is_over() && pod.object.deleting {
            continue;
        }
        let node = match pod.node.is_empty() {
            true => target(&pod.object),
            false => Some(pod.node.clone()),
        };
        if let Some(node) = node {
            nodes.entry(node).or_default().push(pod);
        }
    }
    for pods in nodes.values_mut() {
        pods.sort_by(|a, b| {
            let rank = |pod: &PodFacts| (pod.node.is_empty(), pod.created);
            rank(a).cmp(&rank(b)).then_with(|| a.object.key.name.cmp(&b.object.key.name))
        });
    }
    nodes
}

/// The template that pods are to be of, and when they count.
pub(super) struct Current<'a> {
    pub(super) hash: &'a str,
    /// The template's generation, where the DaemonSet tells it.
    pub(super) generation: Option<&'a str>,
    pub(super) min_ready_seconds: i32,
    pub(super) now: Timestamp,
}

impl Current<'_> {
    /// Whether `pod` was made from the present template.
    pub(super) fn made(&self, pod: &PodFacts) -> bool {
        let label = |name| pod.object.label(name);
        (!self.hash.is_empty() && label(crate::revisions::HASH_LABEL) == Some(self.hash))
            || self.generation.is_some() && label(GENERATION_LABEL) == self.generation
    }

    pub(super) fn available(&self, pod: &PodFacts) -> bool {
        pod.is_available(self.min_ready_seconds, self.now)
    }
}

/// The label that marks pods of a template generation.
pub(super) fn generation_label(generation: &str) -> (String, String) {
    (GENERATION_LABEL.to_owned(), generation.to_owned())
}

/// What to do in one pass.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub(super) create: Vec<Box<str>>,
    /// Pods that go.
    pub(super) delete: Vec<Arc<Object>>,
    /// Pods that ended, for the events that tell of them.
    pub(super) ended: Vec<(Phase, Key, Box<str>)>,
    /// When to look again.
    pub(super) again: Option<Duration>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty()
    }

    fn drop(&mut self, pod: &PodFacts) {
        self.delete.push(pod.object.clone());
    }
}

/// One pod on each node that wants one, none elsewhere. With `surge` a node may have an old and a
/// new one while the new one becomes available. `backoff` tells how long the replacement of a
/// failed pod has to wait still.
pub(super) fn settle(
    nodes: &[NodeFacts],
    pods: &PodsByNode,
    placement: &Placement,
    surge: bool,
    current: &Current<'_>,
    mut backoff: impl FnMut(&str) -> Option<Duration>,
) -> Plan {
    let mut plan = Plan::default();
    for node in nodes {
        let name = node.name();
        let here = pods.get(name).map(Vec::as_slice).unwrap_or_default();
        match placement.verdict(node) {
            Verdict::Run if here.is_empty() => plan.create.push(name.into()),
            Verdict::Leave => {
                here.iter().filter(|pod| !pod.object.deleting).for_each(|pod| plan.drop(pod));
            }
            verdict => {
                let running = clear_ended(&mut plan, name, here, &mut backoff);
                match (running.as_slice(), surge) {
                    ([], true) if verdict == Verdict::Run => plan.create.push(name.into()),
                    ([] | [_], _) => {}
                    (several, false) => several[1..].iter().for_each(|pod| plan.drop(pod)),
                    (several, true) => keep_pair(&mut plan, several, current),
                }
            }
        }
    }
    // Nobody else deletes pods made for a node that is gone before they were scheduled.
    for (name, lost) in pods {
        if !nodes.iter().any(|node| *node.name() == **name) {
            lost.iter().filter(|pod| pod.node.is_empty()).for_each(|pod| plan.drop(pod));
        }
    }
    plan
}

/// Lets pods that ended go, and returns those that run.
fn clear_ended<'a>(
    plan: &mut Plan,
    node: &str,
    here: &'a [PodFacts],
    backoff: &mut impl FnMut(&str) -> Option<Duration>,
) -> Vec<&'a PodFacts> {
    let mut running = Vec::with_capacity(here.len());
    for pod in here.iter().filter(|pod| !pod.object.deleting) {
        if !pod.is_over() {
            running.push(pod);
            continue;
        }
        if pod.phase == Phase::Failed
            && let Some(wait) = backoff(node)
        {
            plan.again = Some(plan.again.map_or(wait, |again| again.min(wait)));
            continue;
        }
        plan.ended.push((pod.phase, pod.object.key.clone(), node.into()));
        plan.drop(pod);
    }
    running
}

/// Of several pods keeps the oldest new one, and the oldest old one while that serves and the new
/// one does not yet.
fn keep_pair(plan: &mut Plan, several: &[&PodFacts], current: &Current<'_>) {
    let (mut new, mut old) = (None, None);
    for pod in several {
        let first = if current.made(pod) { &mut new } else { &mut old };
        match first {
            None => *first = Some(*pod),
            Some(_) => plan.drop(pod),
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (old.ready.is_none() || current.available(new))
    {
        plan.drop(old);
    }
}

/// Failed pods by DaemonSet and node: how long to wait for the next.
#[derive(Default)]
pub(super) struct Backoff {
    sets: Mutex<HashMap<Key, (Option<i64>, Failures)>>,
}

type Failures = HashMap<Box<str>, (Duration, Instant)>;

impl Backoff {
    /// How long a failed pod of `set` on `node` has to wait still; `None` if it may go now, which
    /// makes the next one wait longer. A new generation of the set starts afresh.
    pub(super) fn wait(&self, set: &Key, generation: Option<i64>, node: &str) -> Option<Duration> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, failures) = sets.entry(set.clone()).or_default();
        if *known != generation {
            *known = generation;
            failures.clear();
        }
        let now = Instant::now();
        let next = match failures.get(node) {
            Some((delay, since)) if now < *since + *delay => return Some(*since + *delay - now),
            Some((delay, since)) if now < *since + 2 * LAST_BACKOFF => {
                (*delay * 2).min(LAST_BACKOFF)
            }
            _ => FIRST_BACKOFF,
        };
        failures.insert(node.into(), (next, now));
        None
    }

    /// Forgets a set that is gone.
    pub(super) fn forget(&self, set: &Key) {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).remove(set);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use apimachinery::Draft;
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::{Value, json};

    use super::*;

    /// A pod called `name` of template `hash` on `node`, in `phase` (or "Ready").
    pub(crate) fn pod(name: &str, node: &str, hash: &str, phase: &str) -> PodFacts {
        let status = match phase {
            "Ready" => json!({"phase": "Running", "conditions": [{"type": "Ready",
                "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
            phase => json!({"phase": phase}),
        };
        read(json!({"metadata": {"name": name, "uid": name,
            "labels": {"controller-revision-hash": hash}},
            "spec": {"nodeName": node}, "status": status}))
    }

    fn read(pod: Value) -> PodFacts {
        PodFacts::read(Draft::new(&pod, &[] as &[&str]).unwrap().seal(1)).unwrap()
    }

    pub(crate) fn node(name: &str, taint: Option<&str>) -> NodeFacts {
        let taints: Vec<_> =
            taint.iter().map(|effect| json!({"key": "k", "effect": effect})).collect();
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}}))
            .unwrap()
    }

    pub(crate) fn current() -> Current<'static> {
        Current {
            hash: "new",
            generation: None,
            min_ready_seconds: 0,
            now: "2026-01-01T00:01:00Z".parse().unwrap(),
        }
    }

    fn run(nodes: &[NodeFacts], pods: Vec<PodFacts>, surge: bool) -> (String, String) {
        let placement = Placement::of(&PodSpec::default());
        let plan = settle(nodes, &by_node(pods), &placement, surge, &current(), |node| {
            (node == "waiting").then_some(Duration::from_secs(3))
        });
        let deleted: Vec<&str> = plan.delete.iter().map(|pod| &*pod.key.name).collect();
        (plan.create.join(" "), deleted.join(" "))
    }

    #[test]
    fn every_node_that_wants_a_pod_has_one() {
        let nodes = [node("a", None), node("b", None), node("c", Some("NoSchedule"))];
        let (create, delete) = run(&nodes, vec![pod("p", "b", "new", "Running")], false);
        assert_eq!((create.as_str(), delete.as_str()), ("a", ""));
    }

    #[test]
    fn pods_go_where_they_do_not_belong_and_where_they_are_too_many() {
        let nodes = [node("a", Some("NoExecute")), node("b", None), node("c", Some("NoSchedule"))];
        let pods = vec![
            pod("a", "a", "new", "Running"),
            pod("b1", "b", "new", "Running"),
            pod("b2", "b", "new", "Running"),
            pod("c", "c", "new", "Running"),
        ];
        assert_eq!(run(&nodes, pods, false), (String::new(), "a b2".to_owned()));
    }

    #[test]
    fn pods_that_ended_go_unless_they_have_to_wait() {
        let nodes = [node("a", None), node("waiting", None)];
        let pods = vec![pod("a", "a", "new", "Failed"), pod("w", "waiting", "new", "Failed")];
        assert_eq!(run(&nodes, pods, false), (String::new(), "a".to_owned()));
    }

    #[test]
    fn pods_made_for_a_node_that_is_gone_go() {
        let lost = read(json!({"metadata": {"name": "lost", "uid": "l"}, "spec": {"affinity":
            {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name",
                    "operator": "In", "values": ["gone"]}]}]}}}}}));
        let pods = vec![lost, pod("there", "gone", "new", "Running")];
        assert_eq!(run(&[], pods, false), (String::new(), "lost".to_owned()));
    }

    #[test]
    fn with_surge_the_old_pod_stays_until_the_new_one_serves() {
        let nodes = [node("a", None)];
        let old = || pod("old", "a", "old", "Ready");
        let starting = vec![old(), pod("new", "a", "new", "Running")];
        assert_eq!(run(&nodes, starting, true).1, "");
        assert_eq!(run(&nodes, vec![old(), pod("new", "a", "new", "Ready")], true).1, "old");
        let broken = vec![pod("old", "a", "old", "Running"), pod("new", "a", "new", "Running")];
        assert_eq!(run(&nodes, broken, true).1, "old");
    }

    #[tokio::test(start_paused = true)]
    async fn replacements_of_failed_pods_wait_longer_each_time() {
        let (backoff, set) = (Backoff::default(), Key::new("n", "a"));
        assert_eq!(backoff.wait(&set, Some(1), "a"), None);
        assert_eq!(backoff.wait(&set, Some(1), "a"), Some(FIRST_BACKOFF));
        tokio::time::advance(FIRST_BACKOFF).await;
        assert_eq!(backoff.wait(&set, Some(1), "a"), None);
        assert_eq!(backoff.wait(&set, Some(1), "a"), Some(2 * FIRST_BACKOFF));
        assert_eq!(backoff.wait(&set, Some(2), "a"), None, "a new generation starts afresh");
    }
}
