//! The status of a StatefulSet.

use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::plan::View;
use crate::revisions::HASH_LABEL;

/// The status that the observed pods give.
pub(super) fn of(view: &View<'_>) -> StatefulSetStatus {
    let old = view.set.status.clone().unwrap_or_default();
    let mut status = StatefulSetStatus {
        observed_generation: view.set.metadata.generation,
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
        current_revision: Some(view.current.to_owned()),
        update_revision: Some(view.update.to_owned()),
        ..StatefulSetStatus::default()
    };
    let (mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0);
    for (_, pod) in view.all() {
        status.replicas += 1;
        let is_ready = View::is_ready(pod);
        ready += i32::from(is_ready);
        available += i32::from(is_ready && view.is_available(pod));
        if !pod.object.deleting {
            let revision = pod.object.label(HASH_LABEL);
            current += i32::from(revision == Some(view.current));
            updated += i32::from(revision == Some(view.update));
        }
    }
    status.ready_replicas = some(ready);
    status.available_replicas = Some(available);
    status.current_replicas = some(current);
    status.updated_replicas = some(updated);
    status
}

/// Ends an update when all pods are of the new revision and ready.
pub(super) fn complete(status: &mut StatefulSetStatus, replicas: i32) {
    let is_all = |count: Option<i32>| count.unwrap_or(0) == replicas;
    if is_all(status.updated_replicas)
        && is_all(status.ready_replicas)
        && status.replicas == replicas
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    status.current_replicas = some(status.current_replicas.unwrap_or(0));
}

/// Zero is left out, as upstream's JSON leaves it out.
fn some(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count > 0)
}
