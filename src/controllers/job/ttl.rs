//! Jobs that finished are deleted after `ttlSecondsAfterFinished`.

use std::time::Duration;

use client::{
    Client, DeleteParams, Preconditions, PropagationPolicy,
    controller::{Action, ReconcileError},
    is_not_found,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::condition;

/// How long a finished Job stays still; `None` for ever.
fn remaining(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = u64::try_from(job.spec.as_ref()?.ttl_seconds_after_finished?).ok()?;
    let finished = condition::finished(job)?.last_transition_time.as_ref()?.0;
    let passed = Duration::try_from(now.duration_since(finished)).unwrap_or_default();
    Some(Duration::from_secs(ttl).saturating_sub(passed))
}

/// Deletes a finished Job and its pods once its time is over.
pub(super) async fn expire(client: &Client, job: &Job) -> Result<Action, ReconcileError> {
    let meta = &job.metadata;
    let Some(left) = remaining(job, Timestamp::now()).filter(|_| meta.deletion_timestamp.is_none())
    else {
        return Ok(Action::Done);
    };
    if !left.is_zero() {
        return Ok(Action::Again(left));
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        // What is deleted is what was seen to have expired, not one that was changed since.
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    let api = client.namespaced::<Job>(meta.namespace.as_deref().unwrap_or_default());
    match api.delete(meta.name.as_deref().unwrap_or_default(), &params).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(Action::Done),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_job_stays_for_its_time_after_it_finished() {
        let left = |ttl: Value, kind: &str| {
            let job = json!({"spec": {"template": {}, "ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [{"type": kind, "status": "True",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            let job: Job = serde_json::from_value(job).unwrap();
            remaining(&job, "2026-01-01T00:00:10Z".parse().unwrap())
        };
        assert_eq!(left(json!(30), "Complete"), Some(Duration::from_secs(20)));
        assert_eq!(left(json!(5), "Failed"), Some(Duration::ZERO));
        assert_eq!(left(json!(5), "FailureTarget"), None);
        assert_eq!(left(json!(null), "Complete"), None);
    }
}
