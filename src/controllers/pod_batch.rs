//! Many pods of one owner at a time, created and deleted so that the owner's expectations hold.

use std::sync::Arc;

use apimachinery::{Key, Object};
use client::Error;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube_core::Resource;

use crate::{expectations::Expectations, pod_control::PodControl};

/// Pods created or deleted for one owner in one pass.
pub(crate) const BURST: usize = 500;
/// Requests under way at a time.
const PARALLEL: usize = 16;

/// Creates `pods` in batches of 1, 2, 4, ...: where the first is refused (a quota, say) the others
/// are not tried in vain. Returns how many were created, and the last failure.
pub(crate) async fn create_all<K: Resource<DynamicType = ()>>(
    control: &PodControl<'_, K>,
    expectations: &Expectations,
    owner: &Key,
    pods: Vec<Pod>,
) -> (usize, Result<(), Error>) {
    if pods.is_empty() {
        return (0, Ok(()));
    }
    expectations.expect_creations(owner, pods.len());
    let (mut done, mut batch, mut created) = (0, 1, 0);
    while done < pods.len() {
        let end = (done + batch).min(pods.len());
        let results: Vec<Result<Pod, Error>> = stream::iter(done..end)
            .map(|at| control.create(&pods[at]))
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        done = end;
        batch *= 2;
        let mut failure = None;
        for result in results {
            match result {
                Ok(_) => created += 1,
                Err(error) => {
                    expectations.created(owner);
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            (done..pods.len()).for_each(|_| expectations.created(owner));
            return (created, Err(error));
        }
    }
    (created, Ok(()))
}

/// Deletes `pods`. Returns those that are gone or going, and the last failure.
pub(crate) async fn delete_all<K: Resource<DynamicType = ()>>(
    control: &PodControl<'_, K>,
    expectations: &Expectations,
    owner: &Key,
    pods: Vec<Arc<Object>>,
) -> (Vec<Arc<Object>>, Result<(), Error>) {
    if pods.is_empty() {
        return (pods, Ok(()));
    }
    expectations.expect_deletions(owner, pods.iter().map(|pod| pod.uid.clone()));
    let results: Vec<(Arc<Object>, Result<(), Error>)> = stream::iter(pods)
        .map(async |pod| (pod.clone(), control.delete(&pod).await))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let (mut gone, mut outcome) = (Vec::with_capacity(results.len()), Ok(()));
    for (pod, result) in results {
        match result {
            Ok(()) => gone.push(pod),
            Err(error) => {
                expectations.deleted(owner, &pod.uid);
                outcome = Err(error);
            }
        }
    }
    (gone, outcome)
}
