//! Taint eviction: deletes pods from nodes with NoExecute taints that they do not tolerate, or no
//! longer.

use std::{sync::Arc, time::Duration};

use apimachinery::Key;
use client::{
    Change, Client, DeleteParams, Informer, Informers, Patch, PatchParams, Preconditions,
    WorkQueue,
    controller::{Action, ReconcileError},
    events::{Recorder, reference},
    is_not_found,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use placement::taints::covers;
use serde_json::json;

use crate::{
    Context,
    node_lifecycle::{BY_NODE, index_by_node},
};

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let nodes = context.informers.of::<Node>();
    let pods = context.informers.of::<Pod>();
    index_by_node(&pods);
    let queue = Arc::new(WorkQueue::new());
    let (adding, all) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        if let Change::Put { .. } = change {
            let on_node = all.indexed(BY_NODE, &change.object().key.name);
            on_node.into_iter().for_each(|pod| adding.add(pod.key.clone()));
        }
    });
    let adding = queue.clone();
    pods.on_change(move |change| {
        if let Change::Put { new, .. } = change
            && !new.deleting
        {
            adding.add(new.key.clone());
        }
    });
    Informers::synced(&[&nodes, &pods]).await;
    let (client, recorder) =
        (context.client.clone(), context.recorder.renamed("taint-eviction-controller"));
    let work = move |key: Key| {
        let (client, recorder) = (client.clone(), recorder.clone());
        let (nodes, pods) = (nodes.clone(), pods.clone());
        async move { reconcile(&client, &recorder, &nodes, &pods, &key).await }
    };
    context.work(queue, 2, work).await;
}

async fn reconcile(
    client: &Client,
    recorder: &Recorder,
    nodes: &Informer,
    pods: &Informer,
    key: &Key,
) -> Result<Action, ReconcileError> {
    let Some(object) = pods.get(key).filter(|pod| !pod.deleting) else { return Ok(Action::Done) };
    let Some(name) = crate::pod::node_name(&object) else { return Ok(Action::Done) };
    let Some(node) = nodes.get_as::<Node>("", &name) else { return Ok(Action::Done) };
    let taints: Vec<Taint> = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let taints: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == "NoExecute").collect();
    if taints.is_empty() {
        return Ok(Action::Done);
    }
    let pod: Pod = object.parse()?;
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    let due = match time_left(&taints, tolerations.unwrap_or_default(), Timestamp::now()) {
        None => return Ok(Action::Done),
        Some(left) => left,
    };
    if !due.is_zero() {
        return Ok(Action::Again(due));
    }
    let api = client.namespaced::<Pod>(&key.namespace);
    recorder.normal(
        &reference(&pod),
        "TaintManagerEviction",
        format!("Marking for deletion Pod {key}"),
    );
    let patch = json!({"metadata": {"uid": object.uid}, "status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": apimachinery::time::now()}]}});
    match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Err(error) if !is_not_found(&error) => return Err(error.into()),
        _ => {}
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(object.uid.to_string()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&key.name, &params).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(Action::Done),
    }
}

/// How long the pod may stay: `None` for ever, zero not at all. Counted from when each taint was
/// added.
fn time_left(taints: &[&Taint], tolerations: &[Toleration], now: Timestamp) -> Option<Duration> {
    let mut least: Option<Duration> = None;
    for taint in taints {
        let covering: Vec<&Toleration> =
            tolerations.iter().filter(|toleration| covers(toleration, taint)).collect();
        let left = match covering.iter().map(|t| t.toleration_seconds).min() {
            None => Some(Duration::ZERO),
            Some(_) if covering.iter().all(|t| t.toleration_seconds.is_none()) => None,
            Some(_) => {
                let seconds = covering.iter().filter_map(|t| t.toleration_seconds).min()?;
                let since = taint.time_added.as_ref().map_or(now, |time| time.0);
                let passed = now.as_second() - since.as_second();
                let left = seconds.max(0).saturating_sub(passed);
                Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
            }
        };
        least = match (least, left) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(tolerations: serde_json::Value) -> Option<u64> {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let taint: Taint = serde_json::from_value(json!({"key": "k", "effect": "NoExecute",
            "timeAdded": "2026-01-01T00:00:00Z"}))
        .unwrap();
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        time_left(&[&taint], &tolerations, now).map(|left| left.as_secs())
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates_the_taint() {
        assert_eq!(left(json!([])), Some(0));
        assert_eq!(left(json!([{"key": "other", "operator": "Exists"}])), Some(0));
        assert_eq!(left(json!([{"key": "k", "operator": "Exists"}])), None);
        let minutes =
            |seconds| json!([{"key": "k", "operator": "Exists", "tolerationSeconds": seconds}]);
        assert_eq!(left(minutes(300)), Some(240), "counted from when the taint was added");
        assert_eq!(left(minutes(30)), Some(0));
    }
}
