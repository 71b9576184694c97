//! Removes requests that were answered, or left unanswered, long ago.

use std::{sync::Arc, time::Duration};

use apimachinery::Key;
use client::{
    DeleteParams, WorkQueue,
    controller::{Action, ReconcileError},
    is_not_found,
};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{condition, is_issued};
use crate::Context;

/// Seconds that an answered request stays.
const ANSWERED: i64 = 3600;
/// Seconds that one stays which nobody approved, or nobody signed.
const UNANSWERED: i64 = 24 * 3600;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let requests = context.informers.of::<CertificateSigningRequest>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    requests.on_change(move |change| adding.add(change.object().key.clone()));
    requests.synced().await;
    let client = context.client.clone();
    let work = move |key: Key| {
        let (requests, client) = (requests.clone(), client.clone());
        async move {
            let Some(request) = requests.get_as::<CertificateSigningRequest>("", &key.name) else {
                return Ok(Action::Done);
            };
            let Some(end) = end(&request) else { return Ok(Action::Done) };
            let left = end.saturating_sub(Timestamp::now().as_second());
            if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
                return Ok(Action::Again(Duration::from_secs(left)));
            }
            let api = client.cluster::<CertificateSigningRequest>();
            match api.delete(&key.name, &DeleteParams::default()).await {
                Err(error) if !is_not_found(&error) => Err(ReconcileError::from(error)),
                _ => Ok(Action::Done),
            }
        }
    };
    context.work(queue, 1, work).await;
}

/// When the request is to go, in seconds of the epoch.
fn end(request: &CertificateSigningRequest) -> Option<i64> {
    let since = |kind| {
        let known = condition(request, kind)?;
        let updated = known.last_update_time.as_ref().or(known.last_transition_time.as_ref());
        updated.map(|time| time.0.as_second())
    };
    let answered = ["Denied", "Failed"].iter().filter_map(|kind| since(kind)).min();
    if let Some(since) = answered {
        return Some(since + ANSWERED);
    }
    if let Some(since) = since("Approved") {
        return Some(since + if is_issued(request) { ANSWERED } else { UNANSWERED });
    }
    let made = request.metadata.creation_timestamp.as_ref()?.0.as_second();
    let judged = request.status.as_ref().is_some_and(|status| {
        status.conditions.as_ref().is_some_and(|conditions| !conditions.is_empty())
    });
    (!judged).then_some(made + UNANSWERED)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn requests_stay_an_hour_or_a_day() {
        let end = |status: Value| {
            let request: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"request": "", "signerName": "example.com/a"}, "status": status}))
            .unwrap();
            end(&request).map(|end| Timestamp::from_second(end).unwrap().to_string())
        };
        let judged = |kind: &str| {
            json!({"conditions": [{"type": kind, "status": "True",
                "lastUpdateTime": "2026-01-01T02:00:00Z"}]})
        };
        assert_eq!(end(json!({})).as_deref(), Some("2026-01-02T00:00:00Z"));
        assert_eq!(end(judged("Denied")).as_deref(), Some("2026-01-01T03:00:00Z"));
        assert_eq!(end(judged("Approved")).as_deref(), Some("2026-01-02T02:00:00Z"));
        let mut issued = judged("Approved");
        issued["certificate"] = json!("YQ==");
        assert_eq!(end(issued).as_deref(), Some("2026-01-01T03:00:00Z"));
    }
}
