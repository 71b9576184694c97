//! The scheduling cycle: one pod, all nodes, a decision.

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::Key;
use client::events::reference;
use tracing::{debug, warn};

use crate::{
    Scheduler, bind,
    cache::NodeInfo,
    framework::{Plugins, Rejection},
    pod::PodInfo,
};

/// Why a pod found no node.
pub(crate) struct Unschedulable {
    /// In upstream's words.
    pub(crate) message: String,
    /// The filters that ruled nodes out.
    pub(crate) rejected_by: Vec<&'static str>,
}

/// Decides for one pod after another, for ever.
pub(crate) async fn run(scheduler: Arc<Scheduler>) {
    loop {
        let (key, pod) = scheduler.queue.next().await;
        if !scheduler.still_pending(&key, pod.uid()) {
            scheduler.queue.remove(&key);
            continue;
        }
        match choose(&scheduler.plugins, &pod, &scheduler.cache.nodes()) {
            Ok(node) => {
                scheduler.cache.assume(&pod, &node);
                tokio::spawn(place(scheduler.clone(), key, pod, node));
            }
            Err(failure) => {
                tokio::spawn(report(scheduler.clone(), pod, failure.message));
                scheduler.queue.unschedulable(&key, failure.rejected_by);
            }
        }
    }
}

async fn place(scheduler: Arc<Scheduler>, key: Key, pod: PodInfo, node: String) {
    match bind::bind(&scheduler.client, &pod, &node).await {
        Ok(()) => {
            debug!(pod = %key, node, "bound");
            let message = format!("Successfully assigned {key} to {node}");
            scheduler.recorder.act(&reference(&pod.pod), "Normal", "Scheduled", "Binding", message);
        }
        Err(error) => {
            scheduler.cache.remove_pod(pod.uid());
            scheduler.queue.failed(&key);
            // A pod that was deleted meanwhile is no failure.
            if scheduler.still_pending(&key, pod.uid()) {
                warn!(pod = %key, node, %error, "binding failed");
                let message = format!("binding rejected: {error}");
                scheduler.recorder.act(
                    &reference(&pod.pod),
                    "Warning",
                    "FailedScheduling",
                    "Scheduling",
                    message,
                );
            }
        }
    }
}

async fn report(scheduler: Arc<Scheduler>, pod: PodInfo, message: String) {
    let about = reference(&pod.pod);
    scheduler.recorder.act(&about, "Warning", "FailedScheduling", "Scheduling", message.clone());
    if let Err(error) = bind::mark_unschedulable(&scheduler.client, &pod, &message).await {
        debug!(pod = pod.pod.metadata.name, %error, "condition not written");
    }
}

/// Chooses the best node for `pod`.
pub(crate) fn choose(
    plugins: &Plugins,
    pod: &PodInfo,
    nodes: &[Arc<NodeInfo>],
) -> Result<String, Unschedulable> {
    if nodes.is_empty() {
        let message = "no nodes available to schedule pods".to_owned();
        return Err(Unschedulable { message, rejected_by: Vec::new() });
    }
    let mut rejections: Vec<(&'static str, Rejection)> = Vec::new();
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    for node in nodes {
        let rejected = plugins
            .filters
            .iter()
            .find_map(|filter| Some((filter.name(), filter.filter(pod, node).err()?)));
        match rejected {
            None => feasible.push(node),
            Some(rejection) => rejections.push(rejection),
        }
    }
    match feasible.as_slice() {
        [] => Err(unschedulable(nodes.len(), &rejections)),
        [only] => Ok(only.name().to_owned()),
        several => Ok(best(plugins, pod, several).to_owned()),
    }
}

fn best<'a>(plugins: &Plugins, pod: &PodInfo, nodes: &[&'a NodeInfo]) -> &'a str {
    let mut totals = vec![0; nodes.len()];
    for plugin in &plugins.scores {
        let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(pod, node)).collect();
        plugin.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * plugin.weight();
        }
    }
    // Equals take turns by the pod's UID, which is random: no state, and no favourite.
    let salt = pod.uid().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + byte as usize);
    let highest = totals.iter().copied().max().unwrap_or(0);
    let equals: Vec<&&NodeInfo> = nodes
        .iter()
        .zip(&totals)
        .filter(|(_, total)| **total == highest)
        .map(|(node, _)| node)
        .collect();
    equals[salt % equals.len()].name()
}

/// Upstream's summary: how many nodes fell for which reason, and what preemption could do.
fn unschedulable(count: usize, rejections: &[(&'static str, Rejection)]) -> Unschedulable {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, rejection) in rejections {
        for reason in &rejection.reasons {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let list = |counts: &BTreeMap<&str, usize>| {
        let mut texts: Vec<String> = counts.iter().map(|(r, n)| format!("{n} {r}")).collect();
        texts.sort();
        texts.join(", ")
    };
    let mut preemption: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, rejection) in rejections {
        let why = match rejection.resolvable {
            true => "No preemption victims found for incoming pod",
            false => "Preemption is not helpful for scheduling",
        };
        *preemption.entry(why).or_default() += 1;
    }
    let message = format!(
        "0/{count} nodes are available: {}. preemption: 0/{count} nodes are available: {}.",
        list(&reasons),
        list(&preemption)
    );
    let mut rejected_by: Vec<&'static str> = rejections.iter().map(|(name, _)| *name).collect();
    rejected_by.sort_unstable();
    rejected_by.dedup();
    Unschedulable { message, rejected_by }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cache::Cache;

    fn cache(nodes: &[Value]) -> Cache {
        let cache = Cache::default();
        for node in nodes {
            cache.put_node(serde_json::from_value(node.clone()).unwrap());
        }
        cache
    }

    fn node(name: &str, cpu: &str) -> Value {
        json!({"metadata": {"name": name},
            "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "110"}}})
    }

    fn pod(uid: &str, cpu: &str) -> PodInfo {
        PodInfo::new(
            serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": {
                "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}))
            .unwrap(),
        )
    }

    fn chosen(cache: &Cache, pod: &PodInfo) -> Result<String, String> {
        choose(&Plugins::default(), pod, &cache.nodes()).map_err(|failure| failure.message)
    }

    #[test]
    fn the_emptier_node_wins_and_assumed_pods_count() {
        let cache = cache(&[node("a", "4"), node("b", "4")]);
        cache.assume(&pod("first", "2"), "a");
        assert_eq!(chosen(&cache, &pod("p", "1")), Ok("b".to_owned()));
        cache.assume(&pod("second", "4"), "b");
        assert_eq!(chosen(&cache, &pod("p", "1")), Ok("a".to_owned()));
        cache.remove_pod("second");
        assert_eq!(chosen(&cache, &pod("p", "1")), Ok("b".to_owned()));
    }

    #[test]
    fn failures_are_worded_as_upstream_words_them() {
        let cache = cache(&[node("a", "1"), node("b", "2")]);
        assert_eq!(
            chosen(&cache, &pod("p", "100")).unwrap_err(),
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
             2 Preemption is not helpful for scheduling."
        );
        cache.assume(&pod("other", "2"), "b");
        assert_eq!(
            chosen(&cache, &pod("p", "2")).unwrap_err(),
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
             1 No preemption victims found for incoming pod, \
             1 Preemption is not helpful for scheduling."
        );
        let none = chosen(&Cache::default(), &pod("p", "1"));
        assert_eq!(none.unwrap_err(), "no nodes available to schedule pods");
    }

    #[test]
    fn cordoned_and_tainted_nodes_take_no_pods() {
        let mut cordoned = node("a", "4");
        cordoned["spec"] = json!({"unschedulable": true});
        let mut tainted = node("b", "4");
        tainted["spec"] = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
        let message = chosen(&cache(&[cordoned, tainted]), &pod("p", "1")).unwrap_err();
        assert!(message.starts_with(
            "0/2 nodes are available: 1 node(s) had untolerated taint(s), \
             1 node(s) were unschedulable."
        ));
    }
}
