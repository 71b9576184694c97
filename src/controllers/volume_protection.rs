//! Protection of claims, volumes and classes of volume attributes: those that were deleted stay
//! until nothing uses them any more. Admission gives each the finalizer that is taken off here.

use std::{fmt::Debug, sync::Arc};

use apimachinery::{Key, Object};
use client::{
    Api, Error, Informer, Informers, ListParams, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::VolumeAttributesClass,
};
use kube_core::Resource;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Context, finalizers,
    pod_claims::{BY_CLAIM, claims_of, ephemeral_claim, index_by_claim},
};

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";

/// Index of volumes and claims by the classes of attributes that they have or wait for.
const BY_ATTRIBUTES: &str = "attributes";

/// Looks after the finalizer of claims.
pub(crate) async fn run_claims(context: Context) {
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let pods = context.informers.of::<Pod>();
    index_by_claim(&pods);
    let queue = queue_deleted(&claims);
    let (adding, known) = (queue.clone(), claims.clone());
    pods.on_change(move |change| {
        // Nothing to look at for the claims that stay anyway.
        let pod = change.object();
        for claim in claims_of(pod) {
            let key = Key::new(pod.key.namespace.clone(), claim);
            if known.get(&key).is_some_and(|claim| claim.deleting) {
                adding.add(key);
            }
        }
    });
    Informers::synced(&[&claims, &pods]).await;
    let this = context.clone();
    let work = move |key: Key| {
        let (context, claims, pods) = (this.clone(), claims.clone(), pods.clone());
        async move {
            let Some(claim) = claims.get(&key).filter(|claim| claim.deleting) else {
                return Ok(Action::Done);
            };
            if !finalizers::has(&claim, OF_CLAIMS) || is_claimed(&context, &claim, &pods).await? {
                return Ok(Action::Done);
            }
            let api = context.client.namespaced::<PersistentVolumeClaim>(&key.namespace);
            finalizers::remove(&api, &claim, OF_CLAIMS).await?;
            Ok::<_, ReconcileError>(Action::Done)
        }
    };
    context.work(queue, 1, work).await;
}

/// Looks after the finalizer of volumes.
pub(crate) async fn run_volumes(context: Context) {
    let volumes = context.informers.of::<PersistentVolume>();
    let queue = queue_deleted(&volumes);
    let is_used = |volume: &Object| {
        let volume = parse_or_warn::<PersistentVolume>(volume);
        let phase = volume.and_then(|volume| volume.status?.phase);
        phase.as_deref() == Some("Bound")
    };
    let api = context.client.cluster::<PersistentVolume>();
    free(context, volumes, queue, api, OF_VOLUMES, is_used).await;
}

/// Looks after the finalizer of classes of volume attributes.
pub(crate) async fn run_attributes_classes(context: Context) {
    let classes = context.informers.of::<VolumeAttributesClass>();
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let volumes = context.informers.of::<PersistentVolume>();
    let queue = queue_deleted(&classes);
    for informer in [&claims, &volumes] {
        informer.add_index(BY_ATTRIBUTES, classes_of);
        let adding = queue.clone();
        informer.on_change(move |change| {
            let before = change.previous().map(|object| classes_of(object));
            before.into_iter().flatten().for_each(|class| adding.add(Key::new("", class)));
        });
    }
    Informers::synced(&[&claims, &volumes]).await;
    let is_used = move |class: &Object| {
        [&claims, &volumes]
            .iter()
            .any(|informer| !informer.indexed(BY_ATTRIBUTES, &class.key.name).is_empty())
    };
    let api = context.client.cluster::<VolumeAttributesClass>();
    free(context, classes, queue, api, OF_CLASSES, is_used).await;
}

/// A queue of the objects that were deleted.
fn queue_deleted(informer: &Informer) -> Arc<WorkQueue<Key>> {
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    informer.on_change(move |change| {
        if change.object().deleting {
            adding.add(change.object().key.clone());
        }
    });
    queue
}

/// Takes the finalizer off the deleted objects of a cluster-scoped kind that are not used.
async fn free<K>(
    context: Context,
    informer: Informer,
    queue: Arc<WorkQueue<Key>>,
    api: Api<K>,
    finalizer: &'static str,
    is_used: impl Fn(&Object) -> bool + Clone + Send + Sync + 'static,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    informer.synced().await;
    let work = move |key: Key| {
        let (informer, api, is_used) = (informer.clone(), api.clone(), is_used.clone());
        async move {
            let object = informer.get(&key).filter(|object| object.deleting);
            if let Some(object) = object.filter(|object| !is_used(object)) {
                finalizers::remove(&api, &object, finalizer).await?;
            }
            Ok::<_, ReconcileError>(Action::Done)
        }
    };
    context.work(queue, 1, work).await;
}

/// Whether a pod on a node uses the claim. Where the cache knows none, the API server is asked, as
/// a pod may have come that the cache does not know yet.
async fn is_claimed(context: &Context, claim: &Object, pods: &Informer) -> Result<bool, Error> {
    let cached = pods.indexed(BY_CLAIM, &claim.key.to_string());
    if cached.iter().filter_map(|pod| parse_or_warn(pod)).any(|pod| uses(&pod, claim)) {
        return Ok(true);
    }
    let api = context.client.namespaced::<Pod>(&claim.key.namespace);
    Ok(api.list(&ListParams::default()).await?.iter().any(|pod| uses(pod, claim)))
}

fn uses(pod: &Pod, claim: &Object) -> bool {
    let Some(spec) = &pod.spec else { return false };
    // The kubelet sees a pod only on a node, and does not start one whose claim is being deleted.
    if spec.node_name.as_deref().unwrap_or_default().is_empty() {
        return false;
    }
    // What is over, or was deleted without grace, waits at most for its own finalizers: that its
    // claim waits for it would be a circle.
    let meta = &pod.metadata;
    let over = meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds == Some(0);
    let name = meta.name.as_deref().unwrap_or_default();
    let of_pod = claim.controller().is_some_and(|owner| Some(&*owner.uid) == meta.uid.as_deref());
    spec.volumes.iter().flatten().any(|volume| {
        let named = volume.persistent_volume_claim.as_ref();
        named.is_some_and(|source| *source.claim_name == *claim.key.name)
            || !over
                && of_pod
                && volume.ephemeral.is_some()
                && *ephemeral_claim(name, &volume.name) == *claim.key.name
    })
}

/// The classes of attributes that a claim or a volume has or waits for.
fn classes_of(object: &Object) -> Vec<Box<str>> {
    #[derive(Deserialize)]
    struct Attributed {
        #[serde(default)]
        spec: Spec,
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        volume_attributes_class_name: Option<Box<str>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        current_volume_attributes_class_name: Option<Box<str>>,
        modify_volume_status: Option<Modification>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Modification {
        target_volume_attributes_class_name: Option<Box<str>>,
    }
    let Ok(Attributed { spec, status }) = object.parse() else { return Vec::new() };
    let target = status.modify_volume_status.and_then(|m| m.target_volume_attributes_class_name);
    let mut classes = Vec::from_iter(
        [spec.volume_attributes_class_name, status.current_volume_attributes_class_name, target]
            .into_iter()
            .flatten()
            .filter(|class| !class.is_empty()),
    );
    classes.sort();
    classes.dedup();
    classes
}

#[cfg(test)]
mod tests {
    use apimachinery::Draft;
    use serde_json::{Value, json};

    use super::*;

    fn object(value: &Value) -> Arc<Object> {
        Draft::new(value, &[] as &[&str]).unwrap().seal(1)
    }

    #[test]
    fn a_claim_is_used_by_scheduled_pods_and_by_its_own() {
        let claim = |owner: Value| {
            object(&json!({"metadata": {"name": "p-data", "namespace": "n", "uid": "c",
                "ownerReferences": owner}}))
        };
        let plain = claim(json!([]));
        let owned = claim(json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u",
            "controller": true}]));
        let pod = |meta: Value, spec: Value| -> Pod {
            let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"containers": [], "nodeName": "one"}});
            for (part, more) in [("metadata", meta), ("spec", spec)] {
                for (field, value) in more.as_object().unwrap() {
                    pod[part][field] = value.clone();
                }
            }
            serde_json::from_value(pod).unwrap()
        };
        let named = json!({"volumes": [{"name": "v",
            "persistentVolumeClaim": {"claimName": "p-data"}}]});
        let ephemeral = json!({"volumes": [{"name": "data", "ephemeral": {}}]});
        let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 0});
        let mut waiting = named.clone();
        waiting["nodeName"] = json!("");
        assert!(uses(&pod(json!({}), named.clone()), &plain));
        assert!(uses(&pod(gone.clone(), named), &plain));
        assert!(!uses(&pod(json!({}), waiting), &plain));
        assert!(!uses(&pod(json!({}), ephemeral.clone()), &plain), "not the pod's own");
        assert!(uses(&pod(json!({}), ephemeral.clone()), &owned));
        assert!(!uses(&pod(gone, ephemeral), &owned));
    }

    #[test]
    fn classes_are_those_had_and_those_wanted() {
        let claim = object(&json!({"metadata": {"name": "c"},
            "spec": {"volumeAttributesClassName": "gold"},
            "status": {"currentVolumeAttributesClassName": "silver",
                "modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"}}}));
        let classes: Vec<String> = classes_of(&claim).iter().map(ToString::to_string).collect();
        assert_eq!(classes, ["gold", "silver"]);
    }
}
