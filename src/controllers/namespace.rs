//! Namespace: empties a namespace that is being deleted, then lets it go.

use std::{sync::Arc, time::Duration};

use apimachinery::Key;
use client::{
    Client, DeleteParams, Error, Informers, ListParams, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    is_not_found, status_of,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};
use tracing::debug;

use crate::{
    Context,
    resources::{self, Kind},
};

/// The finalizer in `spec.finalizers` that stands for this controller.
const FINALIZER: &str = "kubernetes";
/// Pause while objects that take their time to go (pods, mostly) are waited for.
const WAIT: Duration = Duration::from_millis(500);
/// The longest pause, for objects whose finalizers somebody else has to take off.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let namespaces = context.informers.of::<Namespace>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    namespaces.on_change(move |change| {
        if change.object().deleting {
            adding.add(change.object().key.clone());
        }
    });
    Informers::synced(&[&namespaces]).await;
    let client = context.client.clone();
    let work = move |key: Key| {
        let (client, namespaces) = (client.clone(), namespaces.clone());
        async move {
            match namespaces.get_as::<Namespace>("", &key.name) {
                Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => {
                    finalize(&client, &namespace).await
                }
                _ => Ok(Action::Done),
            }
        }
    };
    context.work(queue, 3, work).await;
}

/// What is left in a namespace after one round of deleting.
#[derive(Default)]
struct Left {
    /// Resources with objects, `pods. has 2 resource instances`.
    content: Vec<String>,
    /// Finalizers that hold objects, `example.com/f in 1 resource instances`.
    finalizers: std::collections::BTreeMap<String, usize>,
    /// What could not be deleted.
    errors: Vec<String>,
}

async fn finalize(client: &Client, namespace: &Namespace) -> Result<Action, ReconcileError> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let held = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    if !held.unwrap_or_default().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::Done);
    }
    let kinds = resources::all(client).await.map_err(|e| ReconcileError::Other(e.message))?;
    let mut left = Left::default();
    // Pods go first, so that none outlives the policies and secrets that it runs under (KEP-5080).
    let is_pods =
        |kind: &&Kind| kind.resource.group.is_empty() && *kind.resource.resource == *"pods";
    let namespaced = || kinds.iter().filter(|kind| kind.namespaced);
    if let Some(pods) = namespaced().find(is_pods) {
        empty(client, pods, name, &mut left).await;
    }
    if left.content.is_empty() {
        for kind in namespaced().filter(|kind| !is_pods(kind)) {
            empty(client, kind, name, &mut left).await;
        }
    }
    write_conditions(client, namespace, &left).await?;
    if left.errors.is_empty() && left.content.is_empty() {
        release(client, namespace).await?;
        return Ok(Action::Done);
    }
    debug!(namespace = name, content = ?left.content, "namespace not yet empty");
    let since = namespace.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let age = since.map_or(0, |since| Timestamp::now().as_second() - since.as_second());
    let pause = WAIT.saturating_mul(u32::try_from(age / 5).unwrap_or(0) + 1);
    Ok(Action::Again(pause.min(LONGEST_WAIT)))
}

/// Deletes what a namespace has of one resource, and notes what stays.
async fn empty(client: &Client, kind: &Kind, namespace: &str, left: &mut Left) {
    let api = kind.api(client, namespace);
    if !kind.can(&["delete", "list"]) {
        return;
    }
    let failed =
        |error: &Error| !is_not_found(error) && status_of(error).is_none_or(|s| s.code != 405);
    let note = |error: Error| format!("{}: {error}", kind.resource.group_resource());
    // Most resources have nothing here: look before deleting, which writes nothing then.
    let there = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) if !failed(&error) => return,
        Err(error) => return left.errors.push(note(error)),
    };
    if there.is_empty() {
        return;
    }
    let deleted = match kind.can(&["deletecollection"]) {
        true => api
            .delete_collection(&DeleteParams::background(), &ListParams::default())
            .await
            .map(drop),
        false => {
            let mut outcome = Ok(());
            for object in &there {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                match api.delete(name, &DeleteParams::background()).await {
                    Err(error) if failed(&error) => outcome = Err(error),
                    _ => {}
                }
            }
            outcome
        }
    };
    if let Err(error) = deleted
        && failed(&error)
    {
        left.errors.push(note(error));
    }
    let Ok(rest) = api.list(&ListParams::default()).await else { return };
    if rest.items.is_empty() {
        return;
    }
    let resource = &kind.resource;
    let count = rest.items.len();
    let content =
        format!("{}.{} has {count} resource instances", resource.resource, resource.group);
    left.content.push(content);
    for finalizer in
        rest.items.iter().flat_map(|object| object.metadata.finalizers.iter().flatten())
    {
        *left.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
}

/// Says in the status what holds the namespace up, in upstream's words.
async fn write_conditions(
    client: &Client,
    namespace: &Namespace,
    left: &Left,
) -> Result<(), Error> {
    let held: Vec<String> = left
        .finalizers
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    let condition = |kind: &str, bad: bool, reasons: [&str; 2], messages: [String; 2]| {
        let [fine, wrong] = messages;
        json!({"type": kind, "status": if bad { "True" } else { "False" },
            "reason": reasons[usize::from(bad)], "message": if bad { wrong } else { fine }})
    };
    let plain = |text: &str| text.to_owned();
    let wanted = [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            false,
            ["ResourcesDiscovered", "DiscoveryFailed"],
            [plain("All resources successfully discovered"), String::new()],
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            ["ParsedGroupVersions", "GroupVersionParsingFailed"],
            [plain("All legacy kube types successfully parsed"), String::new()],
        ),
        condition(
            "NamespaceDeletionContentFailure",
            !left.errors.is_empty(),
            ["ContentDeleted", "ContentDeletionFailed"],
            [
                plain("All content successfully deleted, may be waiting on finalization"),
                format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    left.errors.len(),
                    left.errors.join(", ")
                ),
            ],
        ),
        condition(
            "NamespaceContentRemaining",
            !left.content.is_empty(),
            ["ContentRemoved", "SomeResourcesRemain"],
            [
                plain("All content successfully removed"),
                format!("Some resources are remaining: {}", left.content.join(", ")),
            ],
        ),
        condition(
            "NamespaceFinalizersRemaining",
            !left.finalizers.is_empty(),
            ["ContentHasNoFinalizers", "SomeFinalizersRemain"],
            [
                plain("All content-preserving finalizers finished"),
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    held.join(", ")
                ),
            ],
        ),
    ];
    let known = namespace.status.as_ref().and_then(|status| status.conditions.clone());
    let known = serde_json::to_value(known.unwrap_or_default()).unwrap_or_default();
    let conditions: Vec<Value> = wanted
        .into_iter()
        .map(|mut condition| {
            let before =
                known.as_array().into_iter().flatten().find(|c| c["type"] == condition["type"]);
            let since = before.filter(|before| before["status"] == condition["status"]);
            condition["lastTransitionTime"] = match since {
                Some(since) => since["lastTransitionTime"].clone(),
                None => json!(apimachinery::time::now()),
            };
            condition
        })
        .collect();
    if known.as_array() == Some(&conditions) {
        return Ok(());
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"status": {"conditions": conditions}});
    let api = client.cluster::<Namespace>();
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Takes our finalizer off: the namespace goes.
async fn release(client: &Client, namespace: &Namespace) -> Result<(), Error> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let mut latest = match client.cluster::<Namespace>().get(name).await {
        Ok(latest) => latest,
        Err(error) if is_not_found(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    if latest.metadata.uid != namespace.metadata.uid {
        return Ok(());
    }
    if let Some(finalizers) = latest.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let path = format!("/api/v1/namespaces/{name}/finalize");
    let body = serde_json::to_vec(&latest).map_err(Error::SerdeError)?;
    let request = http::Request::put(path).header("content-type", "application/json").body(body);
    let request = request.map_err(Error::HttpError)?;
    match client.kube().request::<Value>(request).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}
