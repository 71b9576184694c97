//! PersistentVolume binder: brings claims and volumes together, and sees to volumes whose claim is
//! gone.
//!
//! Claims and volumes wait in one queue with one worker, so that no volume is given away twice; all
//! writes are bound to the revision that was read. Volumes are made and destroyed by provisioners
//! outside, which this asks for what is missing.

mod claim;
mod matching;
mod volume;

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::{Key, Object};
use client::{
    Change, Error, Informer, Informers, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
};
use k8s_openapi::{
    api::{
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context,
    pod::node_name,
    pod_claims::{claims_of, index_by_claim},
};

/// Annotation of a claim that has once been bound: without its volume it is lost.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of what was bound by this and not by a user: it may be unbound.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation of a volume: who made it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

struct Controller {
    context: Context,
    claims: Informer,
    volumes: Informer,
    classes: Informer,
    pods: Informer,
    nodes: Informer,
    /// Volumes have no namespace; claims have one.
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        claims: context.informers.of::<PersistentVolumeClaim>(),
        volumes: context.informers.of::<PersistentVolume>(),
        classes: context.informers.of::<StorageClass>(),
        pods: context.informers.of::<Pod>(),
        nodes: context.informers.of::<Node>(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    let this = controller.clone();
    controller.claims.on_change(move |change| this.claim_changed(change));
    let this = controller.clone();
    controller.volumes.on_change(move |change| this.volume_changed(change));
    let this = controller.clone();
    controller.classes.on_change(move |_| this.queue_unbound());
    index_by_claim(&controller.pods);
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    let Controller { claims, volumes, classes, pods, nodes, .. } = &*controller;
    Informers::synced(&[claims, volumes, classes, pods, nodes]).await;
    let this = controller.clone();
    let work = move |key: Key| {
        let this = this.clone();
        async move {
            match &*key.namespace {
                "" => this.sync_volume(&key).await?,
                _ => this.sync_claim(&key).await?,
            }
            Ok::<_, ReconcileError>(Action::Done)
        }
    };
    controller.context.work(controller.queue.clone(), 1, work).await;
}

/// What claims and volumes are queued by.
#[derive(Deserialize)]
struct Bond {
    #[serde(default)]
    spec: BondSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BondSpec {
    /// Of a claim.
    volume_name: Box<str>,
    /// Of a volume.
    claim_ref: Option<ClaimRef>,
}

#[derive(Deserialize)]
struct ClaimRef {
    name: Box<str>,
    namespace: Box<str>,
}

impl Controller {
    fn claim_changed(&self, change: &Change) {
        let claim = change.object();
        if let Change::Delete(_) = change
            && let Some(volume) = volume_of(claim)
        {
            self.queue.add(volume);
        }
        self.queue.add(claim.key.clone());
    }

    fn volume_changed(&self, change: &Change) {
        let volume = change.object();
        self.queue.add(volume.key.clone());
        match claim_of(volume) {
            Some(claim) => self.queue.add(claim),
            None => self.queue_unbound(),
        }
        if let Change::Delete(_) = change {
            self.queue_unbound();
        }
    }

    /// A pod that has got its node may be the first consumer that its claims wait for.
    fn pod_changed(&self, change: &Change) {
        let Change::Put { old, new } = change else { return };
        if old.as_deref().is_some_and(|old| node_name(old).is_some()) || node_name(new).is_none() {
            return;
        }
        for claim in claims_of(new) {
            let key = Key::new(new.key.namespace.clone(), claim);
            if self.claims.get(&key).is_some_and(|claim| volume_of(&claim).is_none()) {
                self.queue.add(key);
            }
        }
    }

    /// Queues the claims that something new may suit.
    fn queue_unbound(&self) {
        let claims = self.claims.list();
        let unbound = claims.iter().filter(|claim| volume_of(claim).is_none());
        unbound.for_each(|claim| self.queue.add(claim.key.clone()));
    }

    fn volume(&self, name: &str) -> Option<PersistentVolume> {
        self.volumes.get_as("", name)
    }

    fn all_volumes(&self) -> Vec<PersistentVolume> {
        self.volumes.list().iter().filter_map(|volume| parse_or_warn(volume)).collect()
    }

    /// Changes a volume that is still as it was read.
    async fn patch_volume(
        &self,
        volume: &PersistentVolume,
        change: Value,
    ) -> Result<PersistentVolume, Error> {
        let api = self.context.client.cluster::<PersistentVolume>();
        let patch = bound(&volume.metadata, change);
        api.patch(name(&volume.metadata), &PatchParams::default(), &Patch::Merge(&patch)).await
    }

    /// Sets the phase of a volume that is still as it was read.
    async fn set_phase(
        &self,
        volume: PersistentVolume,
        phase: &str,
        message: &str,
    ) -> Result<PersistentVolume, Error> {
        if volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase) {
            return Ok(volume);
        }
        let api = self.context.client.cluster::<PersistentVolume>();
        let message = Some(message).filter(|message| !message.is_empty());
        let change = json!({"status": {"phase": phase, "message": message}});
        let patch = bound(&volume.metadata, change);
        let name = name(&volume.metadata);
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await
    }
}

fn volume_of(claim: &Object) -> Option<Key> {
    let bond: Bond = claim.parse().ok()?;
    Some(bond.spec.volume_name).filter(|name| !name.is_empty()).map(|name| Key::new("", name))
}

fn claim_of(volume: &Object) -> Option<Key> {
    let bond: Bond = volume.parse().ok()?;
    bond.spec.claim_ref.map(|claim| Key::new(claim.namespace, claim.name))
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Adds an annotation to a merge patch.
fn annotate(patch: &mut Value, annotations: BTreeMap<&str, Option<&str>>) {
    if !annotations.is_empty() {
        patch["metadata"]["annotations"] = json!(annotations);
    }
}

/// Binds a merge patch to the revision that was read.
fn bound(meta: &ObjectMeta, mut patch: Value) -> Value {
    patch["metadata"]["uid"] = json!(meta.uid);
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    patch
}
