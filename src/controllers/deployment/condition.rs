//! The conditions of a Deployment: Available, Progressing, ReplicaFailure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

pub(super) const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const COMPLETE: &str = "NewReplicaSetAvailable";

/// The condition `kind` of `status`.
pub(super) fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind))
}

/// Sets a condition, unless it has this status and reason already. Its transition time moves only
/// when its status does.
pub(super) fn set(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: impl Into<String>,
) {
    let now = Some(Time(Timestamp::now()));
    let known = get(status, kind);
    if known
        .is_some_and(|c| c.status.as_deref() == Some(value) && c.reason.as_deref() == Some(reason))
    {
        return;
    }
    let since = known.filter(|known| known.status.as_deref() == Some(value));
    let condition = DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(value.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        last_transition_time: since.map_or(now.clone(), |since| since.last_transition_time.clone()),
        last_update_time: now,
    };
    remove(status, kind);
    status.conditions.get_or_insert_default().push(condition);
}

/// Removes a condition.
pub(super) fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
    }
}

/// The progress deadline; none where it is off (the largest number, upstream's convention).
pub(super) fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.progress_deadline_seconds?;
    u64::try_from(seconds).ok().filter(|_| seconds != i32::MAX).map(Duration::from_secs)
}

/// Time until a rollout that makes no progress is past its deadline.
pub(super) fn deadline_in(deployment: &Deployment, status: &DeploymentStatus) -> Option<Duration> {
    let deadline = deadline(deployment)?;
    let progressing = get(status, PROGRESSING)?;
    match progressing.reason.as_deref() {
        Some(TIMED_OUT | COMPLETE | "DeploymentPaused") => None,
        _ => Some(deadline.saturating_sub(since_update(progressing)?)),
    }
}

/// Whether the deadline has passed without progress.
pub(super) fn timed_out(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let (Some(deadline), Some(progressing)) = (deadline(deployment), get(status, PROGRESSING))
    else {
        return false;
    };
    match progressing.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => since_update(progressing).is_some_and(|since| since >= deadline),
    }
}

fn since_update(condition: &DeploymentCondition) -> Option<Duration> {
    let at = condition.last_update_time.as_ref()?.0;
    Some(Timestamp::now().duration_since(at).try_into().unwrap_or(Duration::ZERO))
}
