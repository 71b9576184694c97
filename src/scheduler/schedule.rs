//! The scheduling cycle: one pod, all nodes, a decision.

use std::sync::Arc;

use client::{events::reference, is_conflict, is_not_found};
use tracing::{debug, warn};

use crate::{
    Scheduler, bind,
    framework::{Failure, Help, Nomination, Plugins, Rejected},
    message::summary,
    node::{NodeInfo, Placed},
    pod::PodInfo,
    preemption::{Budget, evict},
};

/// Why a pod found no node, and what is done for it.
#[derive(Debug)]
pub(crate) struct Unschedulable {
    /// In upstream's words.
    pub(crate) message: String,
    /// The filters that ruled nodes out.
    pub(crate) rejected_by: Vec<&'static str>,
    /// Where room is made for it.
    pub(crate) nomination: Nomination,
    /// Who has to go for that.
    pub(crate) victims: Vec<Arc<Placed>>,
}

/// Decides for one pod after another, for ever.
pub(crate) async fn run(scheduler: Arc<Scheduler>) {
    loop {
        let pod = scheduler.queue.next().await;
        if !scheduler.still_pending(&pod) {
            scheduler.queue.remove(pod.key());
            continue;
        }
        let budgets = || scheduler.budgets();
        match choose(&scheduler.plugins, &pod, &scheduler.cache.nodes(), &budgets) {
            Ok(node) => {
                scheduler.cache.assume(&pod, &node);
                tokio::spawn(place(scheduler.clone(), pod, node));
            }
            Err(failure) => give_up(&scheduler, pod, failure),
        }
    }
}

async fn place(scheduler: Arc<Scheduler>, pod: PodInfo, node: String) {
    let key = pod.key();
    match bind::bind(&scheduler.client, &pod, &node).await {
        Ok(()) => {
            debug!(pod = %key, node, "bound");
            let message = format!("Successfully assigned {key} to {node}");
            scheduler.recorder.act(&reference(&pod.pod), "Normal", "Scheduled", "Binding", message);
        }
        Err(error) => {
            scheduler.cache.remove_pod(pod.uid());
            scheduler.queue.failed(&pod);
            // A pod that was deleted meanwhile is no failure.
            if scheduler.still_pending(&pod) {
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

/// Puts back a pod that found no node, or has room made for it.
fn give_up(scheduler: &Arc<Scheduler>, pod: PodInfo, failure: Unschedulable) {
    nominate(scheduler, &pod, &failure.nomination);
    match &failure.nomination {
        Nomination::Node(node) => {
            let node = node.clone();
            tokio::spawn(preempt(scheduler.clone(), pod, node, failure));
        }
        Nomination::Keep | Nomination::Clear => {
            scheduler.queue.unschedulable(&pod, failure.rejected_by, &scheduler.plugins);
            let scheduler = scheduler.clone();
            tokio::spawn(async move {
                report(&scheduler, &pod, &failure.message, &failure.nomination).await;
            });
        }
    }
}

/// Notes the nomination before the API knows it, so that the next decision sees it.
fn nominate(scheduler: &Scheduler, pod: &PodInfo, nomination: &Nomination) {
    let mut ended = match nomination {
        Nomination::Keep => None,
        Nomination::Clear => scheduler.cache.end_nomination(pod.uid()),
        Nomination::Node(node) => scheduler.cache.nominate(pod, node),
    };
    // A pod that went in the meantime would never end its nomination.
    if !scheduler.still_pending(pod) {
        ended = ended.or(scheduler.cache.end_nomination(pod.uid()));
    }
    if let Some(ended) = ended {
        scheduler.nomination_ended(&ended, |other| other.uid() != pod.uid());
    }
}

/// Makes room for the pod. It is in hand until the victims are on their way out, and waits for
/// their end then.
async fn preempt(scheduler: Arc<Scheduler>, pod: PodInfo, node: Box<str>, failure: Unschedulable) {
    let Unschedulable { message, rejected_by, nomination, victims } = failure;
    // A pod that is gone needs no room.
    let made = match report(&scheduler, &pod, &message, &nomination).await {
        true => evict::make_room(&scheduler, &pod, &node, victims).await,
        false => Ok(()),
    };
    match made {
        Ok(()) => scheduler.queue.unschedulable(&pod, rejected_by, &scheduler.plugins),
        Err(error) => {
            warn!(pod = %pod.key(), %node, %error, "preemption failed");
            scheduler.queue.failed(&pod);
        }
    }
}

/// Says why there is no node; returns whether the pod is still there.
async fn report(
    scheduler: &Scheduler,
    pod: &PodInfo,
    message: &str,
    nomination: &Nomination,
) -> bool {
    let about = reference(&pod.pod);
    scheduler.recorder.act(&about, "Warning", "FailedScheduling", "Scheduling", message);
    match bind::mark_unschedulable(&scheduler.client, pod, message, nomination).await {
        Ok(()) => true,
        Err(error) => {
            debug!(pod = %pod.key(), %error, "condition not written");
            // Another may have taken its name.
            !(is_not_found(&error) || is_conflict(&error))
        }
    }
}

/// Chooses the best node for `pod`, or what can be done to have one.
pub(crate) fn choose(
    plugins: &Plugins,
    pod: &PodInfo,
    nodes: &[Arc<NodeInfo>],
    budgets: &dyn Fn() -> Vec<Budget>,
) -> Result<String, Unschedulable> {
    if nodes.is_empty() {
        return Err(Unschedulable {
            message: "no nodes available to schedule pods".to_owned(),
            rejected_by: Vec::new(),
            nomination: Nomination::Clear,
            victims: Vec::new(),
        });
    }
    // Where room was made for it, it goes without looking further.
    if let Some(node) = nodes.iter().find(|node| node.awaits(pod.uid()))
        && plugins.filter(pod, node).is_ok()
    {
        return Ok(node.name().to_owned());
    }
    let mut rejected: Vec<Rejected<'_>> = Vec::new();
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    for node in nodes {
        match plugins.filter(pod, node) {
            Ok(()) => feasible.push(node),
            Err((by, why)) => rejected.push(Rejected { node, by, why }),
        }
    }
    match feasible.as_slice() {
        [] => Err(unschedulable(&Failure { pod, rejected, plugins, budgets })),
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
    let highest = totals.iter().copied().max().unwrap_or(0);
    let equals: Vec<&&NodeInfo> = nodes
        .iter()
        .zip(&totals)
        .filter(|(_, total)| **total == highest)
        .map(|(node, _)| node)
        .collect();
    equals[turn(pod, equals.len())].name()
}

/// One of `count` equals. They take turns by the pod's UID, which is random: no state, and no
/// favourite.
pub(crate) fn turn(pod: &PodInfo, count: usize) -> usize {
    pod.uid().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
        % count
}

fn unschedulable(failure: &Failure<'_>) -> Unschedulable {
    let Help { message, nomination, victims } = failure.plugins.post_filter.help(failure);
    let reasons = failure.rejected.iter().flat_map(|rejected| &rejected.why.reasons);
    let reasons = summary(failure.rejected.len(), reasons.map(String::as_str));
    let mut rejected_by: Vec<&'static str> =
        failure.rejected.iter().map(|rejected| rejected.by).collect();
    rejected_by.sort_unstable();
    rejected_by.dedup();
    Unschedulable { message: format!("{reasons} {message}"), rejected_by, nomination, victims }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Taint;

    use crate::{
        cache::Cache,
        testing::{asking, chosen, cluster, node},
    };

    #[test]
    fn the_emptier_node_wins_and_assumed_pods_count() {
        let cache = cluster(&[("a", "4"), ("b", "4")]);
        cache.assume(&asking("first", "2"), "a");
        assert_eq!(chosen(&cache, &asking("p", "1")), Ok("b".to_owned()));
        cache.assume(&asking("second", "4"), "b");
        assert_eq!(chosen(&cache, &asking("p", "1")), Ok("a".to_owned()));
        cache.remove_pod("second");
        assert_eq!(chosen(&cache, &asking("p", "1")), Ok("b".to_owned()));
    }

    #[test]
    fn failures_are_worded_as_upstream_words_them() {
        let cache = cluster(&[("a", "1"), ("b", "2")]);
        assert_eq!(
            chosen(&cache, &asking("p", "100")).unwrap_err(),
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
             2 Preemption is not helpful for scheduling."
        );
        cache.assume(&asking("other", "2"), "b");
        assert_eq!(
            chosen(&cache, &asking("p", "2")).unwrap_err(),
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
             1 No preemption victims found for incoming pod, \
             1 Preemption is not helpful for scheduling."
        );
        let none = chosen(&Cache::default(), &asking("p", "1"));
        assert_eq!(none.unwrap_err(), "no nodes available to schedule pods");
    }

    #[test]
    fn cordoned_and_tainted_nodes_take_no_pods() {
        let mut cordoned = node("a", "4");
        cordoned.spec.get_or_insert_default().unschedulable = Some(true);
        let mut tainted = node("b", "4");
        tainted.spec.get_or_insert_default().taints = Some(vec![Taint {
            key: "k".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        }]);
        let cache = Cache::default();
        cache.put_node(cordoned);
        cache.put_node(tainted);
        let message = chosen(&cache, &asking("p", "1")).unwrap_err();
        assert!(message.starts_with(
            "0/2 nodes are available: 1 node(s) had untolerated taint(s), \
             1 node(s) were unschedulable."
        ));
    }
}
