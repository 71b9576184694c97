//! Removes PodCertificateRequests that are old: the kubelet that made one has its certificate by
//! then, or has given up.

use std::{sync::Arc, time::Duration};

use apimachinery::Key;
use client::{
    DeleteParams, Preconditions, WorkQueue,
    controller::{Action, ReconcileError},
    is_not_found,
};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;

use crate::Context;

/// Seconds that a request stays.
const AGE: i64 = 15 * 60;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let requests = context.informers.of::<PodCertificateRequest>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    requests.on_change(move |change| {
        // What was deleted is forgotten when its time comes.
        if change.previous().is_none() {
            adding.add(change.object().key.clone());
        }
    });
    requests.synced().await;
    let client = context.client.clone();
    let work = move |key: Key| {
        let (requests, client) = (requests.clone(), client.clone());
        async move {
            let Some(object) = requests.get(&key) else { return Ok(Action::Done) };
            let request: PodCertificateRequest = object.parse()?;
            let Some(made) = &request.metadata.creation_timestamp else { return Ok(Action::Done) };
            let left = made.0.as_second() + AGE - Timestamp::now().as_second();
            if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
                return Ok(Action::Again(Duration::from_secs(left)));
            }
            let api = client.namespaced::<PodCertificateRequest>(&key.namespace);
            let uid = Some(object.uid.to_string());
            let preconditions = Some(Preconditions { uid, resource_version: None });
            let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
            match api.delete(&key.name, &parameters).await {
                Err(error) if !is_not_found(&error) => Err(ReconcileError::from(error)),
                _ => Ok(Action::Done),
            }
        }
    };
    context.work(queue, 1, work).await;
}
