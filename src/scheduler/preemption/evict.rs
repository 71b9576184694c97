//! Carries a preemption out: the victims are told why they go, and deleted.

use std::sync::Arc;

use client::{
    Client, DeleteParams, Error, Patch, PatchParams, Preconditions, events::reference,
    informer::parse_or_warn, is_conflict, is_not_found,
};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use serde_json::json;
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::{DEFAULT_SCHEDULER, Scheduler, bind, node::Placed, pod::PodInfo};

/// Makes room for `pod` on `node`. Fails if a victim could not be deleted.
pub(crate) async fn make_room(
    scheduler: &Arc<Scheduler>,
    pod: &PodInfo,
    node: &str,
    victims: Vec<Arc<Placed>>,
) -> Result<(), Error> {
    // Less important pods that wait for the same room may no longer fit: they look elsewhere.
    for other in scheduler.cache.nominated_below(node, pod.priority()) {
        if let Err(error) = bind::clear_nomination(&scheduler.client, &other.object).await {
            debug!(pod = %other.object.key, %error, "nomination not cleared");
        }
    }
    let mut evictions = JoinSet::new();
    // Whoever is on the way out already needs no second push.
    for victim in victims.into_iter().filter(|victim| !victim.object.deleting) {
        let (scheduler, preemptor, node) =
            (scheduler.clone(), reference(&pod.pod), node.to_owned());
        evictions.spawn(async move { evict(&scheduler, &victim, &preemptor, &node).await });
    }
    let mut outcome = Ok(());
    while let Some(ended) = evictions.join_next().await {
        outcome = outcome.and(ended.unwrap_or(Ok(())));
    }
    outcome
}

async fn evict(
    scheduler: &Scheduler,
    victim: &Placed,
    preemptor: &ObjectReference,
    node: &str,
) -> Result<(), Error> {
    let Some(pod) = parse_or_warn::<Pod>(&victim.object) else { return Ok(()) };
    match delete(&scheduler.client, victim, &pod).await {
        Ok(()) => {
            info!(pod = %victim.object.key, node, "preempted");
            let uid = preemptor.uid.as_deref().unwrap_or_default();
            let message = format!("Preempted by pod {uid} on node {node}");
            let related = Some(preemptor.clone());
            let recorder = &scheduler.recorder;
            recorder.act_for(
                related,
                &reference(&pod),
                "Normal",
                "Preempted",
                "Preempting",
                message,
            );
            Ok(())
        }
        // It went by itself, or another took its name.
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The condition comes first, so that whoever sees the pod fail knows that it is not to blame: a Job
/// may then not count it.
async fn delete(client: &Client, victim: &Placed, pod: &Pod) -> Result<(), Error> {
    let key = &victim.object.key;
    let api = client.namespaced::<Pod>(&key.namespace);
    let message = format!("{DEFAULT_SCHEDULER}: preempting to accommodate a higher priority pod");
    let patch = json!({"metadata": {"uid": victim.uid()}, "status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": message, "lastTransitionTime": apimachinery::time::now(),
        "observedGeneration": pod.metadata.generation,
    }]}});
    api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    let preconditions =
        Preconditions { uid: Some(victim.uid().to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    api.delete(&key.name, &params).await?;
    Ok(())
}
