//! Which pods of a StatefulSet are made and deleted next: in order, one at a time, or all at once.

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::Object;
use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::StatefulSet, apimachinery::pkg::util::intstr::IntOrString};

use super::identity;
use crate::{
    counts::{Round, scaled},
    pod::{Phase, PodFacts},
    revisions::HASH_LABEL,
};

/// A set and its pods, as they are observed.
pub(super) struct View<'a> {
    pub(super) set: &'a StatefulSet,
    /// The pods within the set's size, by ordinal.
    pub(super) replicas: BTreeMap<i32, PodFacts>,
    /// The pods beyond it, the highest ordinal first.
    pub(super) condemned: Vec<(i32, PodFacts)>,
    /// Names of the revisions.
    pub(super) current: &'a str,
    pub(super) update: &'a str,
    pub(super) now: Timestamp,
}

/// What to do next.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Ordinals that get a pod.
    pub(super) create: Vec<i32>,
    pub(super) delete: Vec<Arc<Object>>,
    /// How many of `delete` are to make way for pods of the new revision.
    pub(super) outdated: i32,
}

impl<'a> View<'a> {
    /// Sorts the pods of `set`.
    pub(super) fn new(
        set: &'a StatefulSet,
        pods: Vec<PodFacts>,
        (current, update): (&'a str, &'a str),
        now: Timestamp,
    ) -> Self {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let range = identity::ordinals(set);
        let (mut replicas, mut condemned) = (BTreeMap::new(), Vec::new());
        for pod in pods {
            match identity::ordinal(name, &pod.object.key.name) {
                Some(ordinal) if range.contains(&ordinal) => {
                    replicas.insert(ordinal, pod);
                }
                Some(ordinal) => condemned.push((ordinal, pod)),
                None => {}
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Self { set, replicas, condemned, current, update, now }
    }

    /// All pods with their ordinals.
    pub(super) fn all(&self) -> impl Iterator<Item = (i32, &PodFacts)> {
        let replicas = self.replicas.iter().map(|(ordinal, pod)| (*ordinal, pod));
        replicas.chain(self.condemned.iter().map(|(ordinal, pod)| (*ordinal, pod)))
    }

    pub(super) fn is_ready(pod: &PodFacts) -> bool {
        pod.phase == Phase::Running && pod.ready.is_some()
    }

    pub(super) fn is_available(&self, pod: &PodFacts) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    fn serves(&self, pod: &PodFacts) -> bool {
        self.is_available(pod) && !pod.object.deleting
    }

    /// Whether a pod can be passed over in order.
    fn is_settled(&self, pod: &PodFacts) -> bool {
        Self::is_ready(pod) && self.is_available(pod)
    }

    fn is_parallel(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    /// The revision that a new pod with this ordinal is of: while an update is under way, pods
    /// that it has not come to yet are made anew as they were.
    pub(super) fn revision_for(&self, ordinal: i32) -> &'a str {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let is_rolling =
            strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("RollingUpdate");
        let old = match rolling {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None if is_rolling => {
                let status = self.set.status.as_ref();
                status.and_then(|status| status.current_replicas).unwrap_or(0)
            }
            None => 0,
        };
        let start = identity::ordinals(self.set).start;
        if ordinal < start.saturating_add(old) { self.current } else { self.update }
    }

    /// What to do next.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let settled = match self.is_parallel() {
            true => self.all_at_once(&mut plan),
            false => self.in_order(&mut plan),
        };
        let strategy = self.set.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        if settled && strategy != Some("OnDelete") {
            self.update(&mut plan);
        }
        plan
    }

    fn all_at_once(&self, plan: &mut Plan) -> bool {
        for ordinal in identity::ordinals(self.set) {
            match self.replicas.get(&ordinal) {
                None => plan.create.push(ordinal),
                Some(pod) if pod.is_over() && !pod.object.deleting => {
                    plan.delete.push(pod.object.clone());
                }
                Some(_) => {}
            }
        }
        let leaving = self.condemned.iter().filter(|(_, pod)| !pod.object.deleting);
        plan.delete.extend(leaving.map(|(_, pod)| pod.object.clone()));
        true
    }

    /// One step at most, from the lowest ordinal up, then from the highest down. Returns whether
    /// all pods are there and serve, and none is too many.
    fn in_order(&self, plan: &mut Plan) -> bool {
        for ordinal in identity::ordinals(self.set) {
            match self.replicas.get(&ordinal) {
                None => plan.create.push(ordinal),
                Some(pod) if pod.is_over() => {
                    let here = !pod.object.deleting;
                    plan.delete.extend(here.then(|| pod.object.clone()));
                }
                Some(pod) if pod.object.deleting || !self.is_settled(pod) => {}
                Some(_) => continue,
            }
            return false;
        }
        let Some((_, last)) = self.condemned.first() else { return true };
        // Of those that go, the lowest that does not serve may go before it does.
        let mut by_ordinal = self.condemned.iter().rev();
        let sick = by_ordinal.find(|(_, pod)| !self.serves(pod));
        let is_sick = sick.is_some_and(|(_, pod)| Arc::ptr_eq(&pod.object, &last.object));
        if !last.object.deleting && (self.is_settled(last) || is_sick) {
            plan.delete.push(last.object.clone());
        }
        false
    }

    /// Deletes old pods, the highest ordinals first, as far as `maxUnavailable` allows.
    fn update(&self, plan: &mut Plan) {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let one = IntOrString::Int(1);
        let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&one);
        let most = scaled(most, identity::replicas(self.set), Round::Down).max(1);
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        let range = identity::ordinals(self.set);
        let first = range.start.saturating_add(partition);
        let is_old = |pod: &PodFacts| pod.object.label(HASH_LABEL) != Some(self.update);
        let present = range.clone().filter_map(|ordinal| self.replicas.get(&ordinal));
        let serving = present.filter(|pod| self.serves(pod)).count();
        let serving = i32::try_from(serving).unwrap_or(i32::MAX);
        let unavailable = identity::replicas(self.set).saturating_sub(serving);
        let mut budget = most.saturating_sub(unavailable);
        let mut drop = |pod: &PodFacts| {
            plan.delete.push(pod.object.clone());
            plan.outdated += 1;
        };
        let going: Vec<_> = self.replicas.range(first..).rev().map(|(_, pod)| pod).collect();
        let old = going.into_iter().filter(|pod| is_old(pod) && !pod.object.deleting);
        for pod in old {
            // One that does not serve costs nothing; in order it must not overtake, though.
            let free = self.is_parallel() && !self.is_available(pod);
            if free && !pod.is_over() {
                drop(pod);
            } else if !pod.is_over() && budget > 0 {
                drop(pod);
                budget -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Draft;
    use serde_json::{Value, json};

    use super::*;

    /// Pods as `web-0` and so on: `n` of the new revision and ready, `o` of the old one and ready,
    /// `p` pending, `q` pending of the old one, `f` failed, `d` going, `.` none.
    fn pods(states: &str) -> Vec<PodFacts> {
        let there = states.chars().enumerate().filter(|(_, state)| *state != '.');
        there
            .map(|(at, state)| {
                let revision = if matches!(state, 'o' | 'q') { "old" } else { "new" };
                let mut pod = json!({"metadata": {"name": format!("web-{at}"), "uid": at.to_string(),
                    "labels": {HASH_LABEL: revision}}, "status": {"phase": match state {
                        'p' | 'q' => "Pending", 'f' => "Failed", _ => "Running"}}});
                if matches!(state, 'n' | 'o' | 'd') {
                    pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
                }
                if state == 'd' {
                    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                }
                PodFacts::read(Draft::new(&pod, &[] as &[&str]).unwrap().seal(1)).unwrap()
            })
            .collect()
    }

    /// The steps as `+0 -1`.
    fn steps(spec: Value, states: &str) -> String {
        let mut whole = json!({"selector": {}, "template": {}, "replicas": 3,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}});
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let set: StatefulSet =
            serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": whole})).unwrap();
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let view = View::new(&set, pods(states), ("old", "new"), now);
        let plan = view.plan();
        let create = plan.create.iter().map(|ordinal| format!("+{ordinal}"));
        let delete = plan.delete.iter().map(|pod| format!("-{}", &pod.key.name[4..]));
        create.chain(delete).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pods_come_and_go_in_order() {
        for (states, expected) in [
            ("", "+0"),
            ("p", ""),
            ("n", "+1"),
            ("nnn", ""),
            ("n.n", "+1"),
            ("nfn", "-1"),
            ("nnnnn", "-4"),
            ("nnnnp", "-4"),
            ("nnnpn", "-4"),
            ("nnnpp", ""),
            ("nnnnd", ""),
            ("npnn", ""),
        ] {
            assert_eq!(steps(json!({}), states), expected, "{states}");
        }
    }

    #[test]
    fn parallel_sets_do_all_at_once() {
        let of = |states| steps(json!({"podManagementPolicy": "Parallel"}), states);
        assert_eq!(of(""), "+0 +1 +2");
        assert_eq!(of("p.fnn"), "+1 -2 -4 -3");
        assert_eq!(of("qoo"), "-0", "what does not serve is replaced without a budget");
        assert_eq!(of("ooo"), "-2");
    }

    #[test]
    fn updates_go_from_the_highest_ordinal_down_within_bounds() {
        assert_eq!(steps(json!({}), "ooo"), "-2");
        assert_eq!(steps(json!({}), "ood"), "");
        assert_eq!(steps(json!({}), "onn"), "-0");
        assert_eq!(steps(json!({}), "oop"), "");
        assert_eq!(steps(json!({"updateStrategy": {"type": "OnDelete"}}), "ooo"), "");
        let rolling = |fields: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": fields}});
        assert_eq!(steps(rolling(json!({"partition": 1})), "onn"), "");
        assert_eq!(steps(rolling(json!({"partition": 0, "maxUnavailable": 2})), "ooo"), "-2 -1");
    }

    #[test]
    fn pods_not_yet_updated_are_made_anew_as_they_were() {
        let set: StatefulSet = serde_json::from_value(json!({"metadata": {"name": "web"},
            "spec": {"selector": {}, "template": {}, "replicas": 3, "ordinals": {"start": 1},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}}))
        .unwrap();
        let view = View::new(&set, vec![], ("old", "new"), Timestamp::UNIX_EPOCH);
        let made: Vec<_> = (1..4).map(|ordinal| view.revision_for(ordinal)).collect();
        assert_eq!(made, ["old", "old", "new"]);
    }
}
