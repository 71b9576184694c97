//! The status of a Deployment, computed from its ReplicaSets.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetStatus};

use super::{condition, rolling};

/// The status to write.
pub(super) fn of(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    new: Option<usize>,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let count = |of: fn(&ReplicaSetStatus) -> Option<i32>| -> i32 {
        sets.iter().filter_map(|set| of(set.status.as_ref()?)).sum()
    };
    let wanted: i32 = sets.iter().map(rolling::size).sum();
    let available = count(|status| status.available_replicas);
    let updated = new.and_then(|at| sets[at].status.as_ref()).map_or(0, |status| status.replicas);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(count(|status| Some(status.replicas))),
        updated_replicas: some(updated),
        ready_replicas: some(count(|status| status.ready_replicas)),
        available_replicas: some(available),
        unavailable_replicas: some((wanted - available).max(0)),
        terminating_replicas: Some(count(|status| status.terminating_replicas)),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let least = rolling::desired(deployment) - rolling::max_unavailable(deployment);
    if available >= least {
        let message = "Deployment has minimum availability.";
        let reason = "MinimumReplicasAvailable";
        condition::set(&mut status, condition::AVAILABLE, "True", reason, message);
    } else {
        let message = "Deployment does not have minimum availability.";
        let reason = "MinimumReplicasUnavailable";
        condition::set(&mut status, condition::AVAILABLE, "False", reason, message);
    }
    progress(deployment, &old, &mut status, new.map(|at| &sets[at]));
    failures(&mut status, sets, new);
    status
}

/// Zero is left out, as upstream's JSON leaves it out.
fn some(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

fn number(count: Option<i32>) -> i32 {
    count.unwrap_or(0)
}

/// Whether all pods are of the current template and available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = rolling::desired(deployment);
    number(status.updated_replicas) == desired
        && number(status.replicas) == desired
        && number(status.available_replicas) == desired
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether `new` is closer to the goal than `old`.
fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated =
        |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn progress(
    deployment: &Deployment,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
) {
    if condition::deadline(deployment).is_none() {
        condition::remove(status, condition::PROGRESSING);
        return;
    }
    if deployment.spec.paused == Some(true) {
        return;
    }
    let known = condition::get(old, condition::PROGRESSING);
    let was_complete =
        known.is_some_and(|known| known.reason.as_deref() == Some(condition::COMPLETE));
    if was_complete && status.replicas == status.updated_replicas {
        return;
    }
    let subject = match new.and_then(|set| set.metadata.name.as_deref()) {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => {
            format!("Deployment \"{}\"", deployment.metadata.name.as_deref().unwrap_or_default())
        }
    };
    let kind = condition::PROGRESSING;
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        condition::set(status, kind, "True", condition::COMPLETE, message);
    } else if has_progressed(old, status) {
        // Set anew each time, so that its update time says when progress was last made.
        let since = known.filter(|known| known.status.as_deref() == Some("True")).cloned();
        condition::remove(status, kind);
        let message = format!("{subject} is progressing.");
        condition::set(status, kind, "True", "ReplicaSetUpdated", message);
        let conditions = status.conditions.iter_mut().flatten();
        if let (Some(since), Some(now)) = (since, conditions.last()) {
            now.last_transition_time = since.last_transition_time;
        }
    } else if condition::timed_out(deployment, status) {
        let message = format!("{subject} has timed out progressing.");
        condition::set(status, kind, "False", condition::TIMED_OUT, message);
    }
}

/// Takes over the ReplicaFailure condition of a ReplicaSet, the new one's first.
fn failures(status: &mut DeploymentStatus, sets: &[ReplicaSet], new: Option<usize>) {
    let failed = new
        .map(|at| &sets[at])
        .into_iter()
        .chain(sets)
        .flat_map(|set| set.status.iter().flat_map(|status| status.conditions.iter().flatten()))
        .find(|condition| condition.type_.as_deref() == Some(condition::REPLICA_FAILURE));
    match failed {
        Some(failed) => condition::set(
            status,
            condition::REPLICA_FAILURE,
            failed.status.as_deref().unwrap_or("True"),
            failed.reason.as_deref().unwrap_or_default(),
            failed.message.clone().unwrap_or_default(),
        ),
        None => condition::remove(status, condition::REPLICA_FAILURE),
    }
}
