//! One claim: finds it a volume, or says what it waits for.

use std::collections::BTreeMap;

use apimachinery::{Key, quantity::Quantity};
use client::{Error, Patch, PatchParams, events::reference, informer::parse_or_warn};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use serde_json::{Value, json};

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, Controller, annotate, annotation, bound, matching, name,
};
use crate::{daemonset::placement::NodeFacts, pod::node_name, pod_claims::BY_CLAIM};

/// Annotation of a claim: the node of its first consumer, which a provisioner is to serve.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotations of a claim: who is to make a volume for it.
const PROVISIONERS: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
/// Annotation of a volume that has grown more than its file system yet.
const BEFORE_RESIZE: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";
/// Annotation of the class for claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

impl Controller {
    pub(super) async fn sync_claim(&self, key: &Key) -> Result<(), Error> {
        let Some(claim) = self.claims.get_as::<PersistentVolumeClaim>(&key.namespace, &key.name)
        else {
            return Ok(());
        };
        match annotation(&claim.metadata, BIND_COMPLETED) {
            Some(_) => self.sync_bound(claim).await,
            None => self.sync_unbound(claim).await,
        }
    }

    async fn sync_bound(&self, claim: PersistentVolumeClaim) -> Result<(), Error> {
        let volume = volume_name(&claim).map(|name| self.volume(name));
        let (reason, message) = match volume {
            None => (
                "ClaimLost",
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            ),
            Some(None) => (
                "ClaimLost",
                "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            ),
            Some(Some(volume)) => {
                let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
                if owner.is_none_or(|owner| owner.uid == claim.metadata.uid) {
                    return self.bind(volume, claim).await;
                }
                (
                    "ClaimMisbound",
                    "Two claims are bound to the same volume, this one is bound incorrectly",
                )
            }
        };
        if phase(&claim) != Some("Lost") {
            self.set_claim_status(&claim, "Lost", None).await?;
            self.context.recorder.warning(&reference(&claim), reason, message);
        }
        Ok(())
    }

    async fn sync_unbound(&self, claim: PersistentVolumeClaim) -> Result<(), Error> {
        let Some(wanted) = volume_name(&claim) else { return self.find(claim).await };
        let about = reference(&claim);
        if let Some(volume) = self.volume(wanted) {
            let free = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_none());
            if free && let Some(why) = matching::mismatch(&volume, &claim) {
                let text = format!("Cannot bind to requested volume \"{wanted}\": {why}");
                self.context.recorder.warning(&about, "VolumeMismatch", text);
            } else if free || matching::refers_to(&volume, &claim) {
                return self.bind(volume, claim).await;
            } else {
                let text = format!("volume \"{wanted}\" already bound to a different claim.");
                self.context.recorder.warning(&about, "FailedBinding", text);
            }
        }
        self.set_claim_status(&claim, "Pending", None).await.map(drop)
    }

    /// Finds a volume for a claim that may have any.
    async fn find(&self, mut claim: PersistentVolumeClaim) -> Result<(), Error> {
        let class_name = matching::class_of_claim(&claim).to_owned();
        let class: Option<StorageClass> = self.classes.get_as("", &class_name);
        let delayed = class.as_ref().and_then(|class| class.volume_binding_mode.as_deref())
            == Some("WaitForFirstConsumer");
        let mut volumes = self.all_volumes();
        // Where the first consumer is to be awaited, its node decides once it has one.
        let node = if delayed { self.first_consumer(&claim) } else { None };
        if let Some(node) = &node {
            volumes.retain(|volume| matching::is_within_reach(volume, node));
        }
        if let Some(volume) = matching::best(&claim, &volumes, delayed && node.is_none()) {
            return self.bind(volume.clone(), claim).await;
        }
        if !matching::names_class(&claim)
            && let Some(class) = self.default_class()
        {
            // The change brings the claim back.
            let patch = json!({"spec": {"storageClassName": class}});
            return self.patch_claim(&claim, patch).await.map(drop);
        }
        let (recorder, about) = (&self.context.recorder, reference(&claim));
        if let Some(node) = &node
            && annotation(&claim.metadata, SELECTED_NODE).is_none()
        {
            let mut patch = json!({});
            annotate(&mut patch, BTreeMap::from([(SELECTED_NODE, Some(node.name()))]));
            claim = self.patch_claim(&claim, patch).await?;
        }
        if delayed && annotation(&claim.metadata, SELECTED_NODE).is_none() {
            let (reason, text) = self.awaited(&claim);
            recorder.normal(&about, reason, text);
        } else if class_name.is_empty() {
            let text = "no persistent volumes available for this claim and no storage class is set";
            recorder.normal(&about, "FailedBinding", text);
        } else if let Some(class) = class {
            claim = self.provision(claim, &class).await?;
        } else {
            let text = format!("storageclass.storage.k8s.io \"{class_name}\" not found");
            recorder.warning(&about, "ProvisioningFailed", text);
        }
        self.set_claim_status(&claim, "Pending", None).await.map(drop)
    }

    /// The node of a pod that uses the claim and has one.
    fn first_consumer(&self, claim: &PersistentVolumeClaim) -> Option<NodeFacts> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let key = Key::new(namespace, name(&claim.metadata));
        let pods = self.pods.indexed(BY_CLAIM, &key.to_string());
        let node = pods.iter().filter(|pod| !pod.deleting).find_map(|pod| node_name(pod))?;
        self.nodes.get(&Key::new("", node)).as_deref().and_then(NodeFacts::read)
    }

    /// What a claim waits for whose class waits for the first consumer.
    fn awaited(&self, claim: &PersistentVolumeClaim) -> (&'static str, String) {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let key = Key::new(namespace, name(&claim.metadata));
        let pods = self.pods.indexed(BY_CLAIM, &key.to_string());
        let waiting = pods.iter().filter(|pod| node_name(pod).is_none());
        let names: Vec<&str> = waiting.map(|pod| &*pod.key.name).collect();
        match names.as_slice() {
            [] => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_owned(),
            ),
            [name] => ("WaitForPodScheduled", format!("waiting for pod {name} to be scheduled")),
            names => {
                let names = names.join(",");
                ("WaitForPodScheduled", format!("waiting for pods {names} to be scheduled"))
            }
        }
    }

    /// The newest of the classes marked as default.
    fn default_class(&self) -> Option<String> {
        let classes = self.classes.list();
        let classes = classes.iter().filter_map(|class| parse_or_warn::<StorageClass>(class));
        classes
            .filter(|class| annotation(&class.metadata, DEFAULT_CLASS) == Some("true"))
            .max_by_key(|class| {
                let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (made, std::cmp::Reverse(class.metadata.name.clone()))
            })
            .and_then(|class| class.metadata.name)
    }

    /// Asks a provisioner outside for a volume.
    async fn provision(
        &self,
        claim: PersistentVolumeClaim,
        class: &StorageClass,
    ) -> Result<PersistentVolumeClaim, Error> {
        let (recorder, about) = (&self.context.recorder, reference(&claim));
        let provisioner = class.provisioner.as_str();
        if provisioner.starts_with("kubernetes.io/") {
            let text = format!("no volume plugin matched name: {provisioner}");
            recorder.warning(&about, "ProvisioningFailed", text);
            return Ok(claim);
        }
        if PROVISIONERS.iter().all(|name| annotation(&claim.metadata, name) == Some(provisioner)) {
            return Ok(claim);
        }
        let mut patch = json!({});
        annotate(&mut patch, PROVISIONERS.iter().map(|name| (*name, Some(provisioner))).collect());
        let claim = self.patch_claim(&claim, patch).await?;
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner \
             '{provisioner}' or manually by the system administrator. If volume creation is \
             delayed, please verify that the provisioner is running and correctly registered."
        );
        recorder.normal(&about, "ExternalProvisioning", text);
        Ok(claim)
    }

    /// Binds a volume and a claim in four writes, each of which may be the first that is missing.
    async fn bind(
        &self,
        volume: PersistentVolume,
        claim: PersistentVolumeClaim,
    ) -> Result<(), Error> {
        let volume = self.bind_volume(volume, &claim).await?;
        let volume = self.set_phase(volume, "Bound", "").await?;
        let claim = self.bind_claim(claim, &volume).await?;
        self.set_claim_status(&claim, "Bound", Some(&volume)).await.map(drop)
    }

    async fn bind_volume(
        &self,
        volume: PersistentVolume,
        claim: &PersistentVolumeClaim,
    ) -> Result<PersistentVolume, Error> {
        let kept = matching::refers_to(&volume, claim);
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if kept && owner.is_some_and(|owner| owner.uid == claim.metadata.uid) {
            return Ok(volume);
        }
        let mut patch = json!({"spec": {"claimRef": reference(claim)}});
        if !kept {
            annotate(&mut patch, BTreeMap::from([(BOUND_BY_CONTROLLER, Some("yes"))]));
        }
        self.patch_volume(&volume, patch).await
    }

    async fn bind_claim(
        &self,
        claim: PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<PersistentVolumeClaim, Error> {
        let (mut patch, mut annotations) = (json!({}), BTreeMap::new());
        if volume_name(&claim) != volume.metadata.name.as_deref() {
            patch["spec"] = json!({"volumeName": volume.metadata.name});
            annotations.insert(BOUND_BY_CONTROLLER, Some("yes"));
        }
        if annotation(&claim.metadata, BIND_COMPLETED).is_none() {
            annotations.insert(BIND_COMPLETED, Some("yes"));
        }
        if annotations.is_empty() {
            return Ok(claim);
        }
        annotate(&mut patch, annotations);
        self.patch_claim(&claim, patch).await
    }

    async fn patch_claim(
        &self,
        claim: &PersistentVolumeClaim,
        change: Value,
    ) -> Result<PersistentVolumeClaim, Error> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.context.client.namespaced::<PersistentVolumeClaim>(namespace);
        let patch = bound(&claim.metadata, change);
        api.patch(name(&claim.metadata), &PatchParams::default(), &Patch::Merge(&patch)).await
    }

    /// Sets the phase of a claim, and what it has from the volume that it is bound to.
    async fn set_claim_status(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<(), Error> {
        let Some(change) = status_change(claim, phase, volume) else { return Ok(()) };
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.context.client.namespaced::<PersistentVolumeClaim>(namespace);
        let patch = bound(&claim.metadata, json!({"status": change}));
        let name = name(&claim.metadata);
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    Some(name).filter(|name| !name.is_empty())
}

fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

/// The merge patch of the claim's status, if it needs any.
fn status_change(
    claim: &PersistentVolumeClaim,
    wanted: &str,
    volume: Option<&PersistentVolume>,
) -> Option<Value> {
    let status = claim.status.clone().unwrap_or_default();
    let mut change = json!({});
    if phase(claim) != Some(wanted) {
        change["phase"] = json!(wanted);
    }
    let Some(spec) = volume.and_then(|volume| volume.spec.as_ref()) else {
        if status.access_modes.is_some() {
            change["accessModes"] = Value::Null;
        }
        if status.capacity.is_some() {
            change["capacity"] = Value::Null;
        }
        if status.current_volume_attributes_class_name.is_some() {
            change["currentVolumeAttributesClassName"] = Value::Null;
        }
        return Some(change).filter(|change| *change != json!({}));
    };
    if status.access_modes != spec.access_modes {
        change["accessModes"] = json!(spec.access_modes);
    }
    if phase(claim) != Some(wanted) {
        // Later changes of the size are told by who makes them.
        let before = volume.and_then(|volume| annotation(&volume.metadata, BEFORE_RESIZE));
        match before.filter(|before| Quantity::parse(before).is_ok()) {
            Some(before) => change["capacity"] = json!({"storage": before}),
            None if status.capacity != spec.capacity => change["capacity"] = json!(spec.capacity),
            None => {}
        }
        if matches!(phase(claim), None | Some("Pending"))
            && status.current_volume_attributes_class_name != spec.volume_attributes_class_name
        {
            let class = &spec.volume_attributes_class_name;
            change["currentVolumeAttributesClassName"] = json!(class);
        }
    }
    Some(change).filter(|change| *change != json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_takes_size_and_modes_from_its_volume() {
        let volume: PersistentVolume = serde_json::from_value(json!({
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}}}))
        .unwrap();
        let mut claim = PersistentVolumeClaim::default();
        assert_eq!(
            status_change(&claim, "Bound", Some(&volume)),
            Some(json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "2Gi"}}))
        );
        claim.status = serde_json::from_value(json!({"phase": "Bound",
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}))
        .unwrap();
        assert_eq!(status_change(&claim, "Bound", Some(&volume)), None);
        assert_eq!(
            status_change(&claim, "Lost", None),
            Some(json!({"phase": "Lost", "accessModes": null, "capacity": null}))
        );
    }
}
