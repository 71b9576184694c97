//! Preemption: a pod that fits nowhere may take the place of pods of lower priority.
//!
//! Structure, order of choice and wording are those of upstream's DefaultPreemption. Here it is
//! decided what would help; [`evict`] carries it out. The pod comes back to the queue when the
//! victims are gone, and until then its nomination keeps their room for it.

mod budgets;
mod choice;
pub(crate) mod evict;
mod victims;

pub use budgets::Budget;

use self::victims::Candidate;
use crate::{
    framework::{Failure, Help, Nomination, PostFilter, Rejected},
    message::summary,
    schedule::turn,
};

/// At least this many candidates are looked at, if there are as many.
const MIN_CANDIDATES: usize = 100;
/// Or this share of the nodes, in percent, if that is more.
const MIN_CANDIDATES_PERCENT: usize = 10;

/// Upstream's plugin of that name.
pub struct DefaultPreemption;

impl PostFilter for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn help(&self, failure: &Failure<'_>) -> Help {
        let (message, nomination, victims) = match not_eligible(failure) {
            Some(why) => (why.to_owned(), Nomination::Keep, Vec::new()),
            None => match candidates(failure) {
                Ok(candidate) => {
                    let Candidate { node, victims, .. } = candidate;
                    let count = victims.len();
                    let message = format!(
                        "found a potential placement for pod on node {node}, preempting {count} \
                         victims"
                    );
                    (message, Nomination::Node(node), victims)
                }
                Err(message) => (message, Nomination::Clear, Vec::new()),
            },
        };
        Help { message: format!("preemption: {message}"), nomination, victims }
    }
}

/// Why the pod may not preempt others, or not now.
fn not_eligible(failure: &Failure<'_>) -> Option<&'static str> {
    let pod = failure.pod;
    if pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = failure.rejected.iter().find(|rejected| rejected.node.awaits(pod.uid()))?;
    // If leaving pods cannot help there any more, another node has to be found.
    let waits = nominated.why.resolvable
        && nominated.node.pods.iter().any(|p| p.preempted && p.priority < pod.priority());
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The best of the nodes where pods could make room, or why there is none.
fn candidates(failure: &Failure<'_>) -> Result<Candidate, String> {
    let resolvable = |rejected: &&Rejected<'_>| rejected.why.resolvable;
    let nodes: Vec<&Rejected<'_>> = failure.rejected.iter().filter(resolvable).collect();
    let mut reasons = vec![
        "Preemption is not helpful for scheduling".to_owned();
        failure.rejected.len() - nodes.len()
    ];
    let mut clean = Vec::new();
    let mut violating = Vec::new();
    if !nodes.is_empty() {
        let budgets = (failure.budgets)();
        let enough = MIN_CANDIDATES.max(nodes.len() * MIN_CANDIDATES_PERCENT / 100);
        // Not always the same nodes first, in a cluster with many.
        let start = turn(failure.pod, nodes.len());
        for at in 0..nodes.len() {
            let node = nodes[(start + at) % nodes.len()].node;
            match victims::select(failure, node, &budgets) {
                Ok(candidate) if candidate.violations == 0 => clean.push(candidate),
                Ok(candidate) => violating.push(candidate),
                Err(rejection) => reasons.extend(rejection.reasons),
            }
            if !clean.is_empty() && clean.len() + violating.len() >= enough {
                break;
            }
        }
    }
    clean.append(&mut violating);
    choice::best(clean)
        .ok_or_else(|| summary(failure.rejected.len(), reasons.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        cache::Cache,
        framework::{Nomination, Plugins},
        pod::PodInfo,
        schedule::{Unschedulable, choose},
        testing::{cluster, pod, urgent},
    };

    fn fails(cache: &Cache, pod: &PodInfo) -> Unschedulable {
        choose(&Plugins::default(), pod, &cache.nodes(), &Vec::new).unwrap_err()
    }

    fn says(cache: &Cache, pod: &PodInfo) -> String {
        fails(cache, pod).message
    }

    /// A pod on `node` that is being preempted.
    fn leaving(name: &str, cpu: &str, node: &str) -> PodInfo {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"});
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        pod(json!({
            "metadata": {"name": name, "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": node, "containers": [container]},
            "status": {"conditions": [condition]},
        }))
    }

    #[test]
    fn pods_of_lower_priority_make_room() {
        let cache = cluster(&[("a", "2")]);
        cache.assume(&urgent("low", "1500m", 1), "a");
        let failure = fails(&cache, &urgent("p", "1", 5));
        assert_eq!(
            failure.message,
            "0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement \
             for pod on node a, preempting 1 victims"
        );
        assert_eq!(failure.nomination, Nomination::Node("a".into()));
        assert_eq!(failure.victims[0].uid(), "low");
    }

    #[test]
    fn pods_of_the_same_priority_stay() {
        let cache = cluster(&[("a", "2")]);
        cache.assume(&urgent("same", "1500m", 5), "a");
        let failure = fails(&cache, &urgent("p", "1", 5));
        assert_eq!(
            failure.message,
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
             1 No preemption victims found for incoming pod."
        );
        assert_eq!(failure.nomination, Nomination::Clear);
        assert!(failure.victims.is_empty());
    }

    #[test]
    fn nodes_where_nobody_could_help_are_told_apart() {
        let cache = cluster(&[("a", "1"), ("b", "2"), ("c", "2")]);
        cache.assume(&urgent("same", "1", 5), "b");
        cache.assume(&urgent("high", "1", 9), "c");
        cache.assume(&urgent("low", "500m", 1), "c");
        assert_eq!(
            says(&cache, &urgent("p", "2", 5)),
            "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: \
             1 Insufficient cpu, 1 No preemption victims found for incoming pod, \
             1 Preemption is not helpful for scheduling.",
            "on c they would leave too little"
        );
    }

    #[test]
    fn a_pod_may_be_too_polite_to_preempt() {
        let cache = cluster(&[("a", "1")]);
        cache.assume(&urgent("low", "1", 1), "a");
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
        let polite = pod(json!({"metadata": {"name": "p"}, "spec": {
            "containers": [container], "priority": 5, "preemptionPolicy": "Never"}}));
        let failure = fails(&cache, &polite);
        assert_eq!(
            failure.message,
            "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to \
             preemptionPolicy=Never."
        );
        assert_eq!(failure.nomination, Nomination::Keep);
    }

    #[test]
    fn nobody_else_is_preempted_while_the_victims_are_leaving() {
        let cache = cluster(&[("a", "1"), ("b", "1")]);
        let preemptor = urgent("p", "1", 5);
        cache.put_pod(&leaving("low", "1", "a"));
        cache.assume(&urgent("other", "1", 1), "b");
        cache.nominate(&preemptor, "a");
        let failure = fails(&cache, &preemptor);
        assert_eq!(
            failure.message,
            "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a \
             terminating pod on the nominated node."
        );
        assert_eq!(failure.nomination, Nomination::Keep);
        assert!(failure.victims.is_empty());
    }

    #[test]
    fn a_pod_looks_elsewhere_when_its_nominated_node_cannot_take_it_any_more() {
        let cache = cluster(&[("a", "1"), ("b", "1")]);
        let preemptor = urgent("p", "1", 5);
        cache.put_pod(&leaving("low", "1", "a"));
        cache.assume(&urgent("other", "1", 1), "b");
        cache.nominate(&preemptor, "a");
        let mut cordoned = crate::testing::node("a", "1");
        cordoned.spec.get_or_insert_default().unschedulable = Some(true);
        cache.put_node(cordoned);
        assert_eq!(fails(&cache, &preemptor).nomination, Nomination::Node("b".into()));
        cache.remove_node("a");
        assert_eq!(fails(&cache, &preemptor).nomination, Nomination::Node("b".into()));
    }

    #[test]
    fn pods_that_leave_for_other_reasons_do_not_hold_preemption_up() {
        let cache = cluster(&[("a", "1")]);
        let preemptor = urgent("p", "1", 5);
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
        let deleted = pod(json!({
            "metadata": {"name": "low", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "a", "containers": [container]},
        }));
        cache.put_pod(&deleted);
        cache.nominate(&preemptor, "a");
        let failure = fails(&cache, &preemptor);
        assert_eq!(failure.nomination, Nomination::Node("a".into()));
        assert!(failure.victims[0].object.deleting, "which is not deleted a second time");
    }

    #[test]
    fn where_room_is_made_others_find_none_unless_they_are_more_important() {
        let cache = cluster(&[("a", "1")]);
        cache.nominate(&urgent("p", "1", 5), "a");
        let chosen = |pod: &PodInfo| crate::testing::chosen(&cache, pod);
        assert_eq!(
            chosen(&urgent("q", "1", 5)).unwrap_err(),
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
             1 No preemption victims found for incoming pod."
        );
        assert_eq!(chosen(&urgent("q", "1", 6)), Ok("a".to_owned()));
        assert_eq!(chosen(&urgent("p", "1", 5)), Ok("a".to_owned()), "it is its own room");
    }

    #[test]
    fn a_pod_goes_where_room_was_made_though_another_node_is_emptier() {
        let cache = cluster(&[("a", "4"), ("b", "2")]);
        let preemptor = urgent("p", "1", 5);
        cache.nominate(&preemptor, "b");
        assert_eq!(crate::testing::chosen(&cache, &preemptor), Ok("b".to_owned()));
    }

    #[test]
    fn victims_leave_room_for_others_that_wait_for_it_too() {
        let cache = cluster(&[("a", "3")]);
        cache.assume(&urgent("one", "1", 1), "a");
        cache.assume(&urgent("two", "1", 1), "a");
        cache.assume(&urgent("three", "1", 1), "a");
        cache.nominate(&urgent("first", "1", 5), "a");
        let failure = fails(&cache, &urgent("second", "1", 5));
        assert_eq!(failure.victims.len(), 2, "one for each of them");
    }
}
