//! One volume: its phase, and what becomes of it when its claim is gone.

use std::collections::BTreeMap;

use apimachinery::Key;
use client::{Error, events::reference, is_not_found};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::{
    BOUND_BY_CONTROLLER, Controller, PROVISIONED_BY, annotate, annotation, matching, name,
};

impl Controller {
    pub(super) async fn sync_volume(&self, key: &Key) -> Result<(), Error> {
        let Some(volume) = self.volume(&key.name) else { return Ok(()) };
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
        let Some(owner) = owner.filter(|owner| owner.uid.as_ref().is_some_and(|u| !u.is_empty()))
        else {
            // Free, or kept for a claim that has yet to come.
            return self.set_phase(volume, "Available", "").await.map(drop);
        };
        let (namespace, claim) =
            (owner.namespace.unwrap_or_default(), owner.name.unwrap_or_default());
        let key = Key::new(namespace, claim);
        let claim = self.claim_with(&key, owner.uid.as_deref()).await?;
        let Some(claim) = claim else { return self.release(volume).await };
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        match bound.unwrap_or_default() {
            "" if matching::modes_differ(&volume, &claim) => {
                let (volume_name, claim_name) = (name(&volume.metadata), name(&claim.metadata));
                let text = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim \
                     \"{claim_name}\" due to incompatible volumeMode."
                );
                let recorder = &self.context.recorder;
                recorder.warning(&reference(&volume), "VolumeMismatch", text);
                let text = format!(
                    "Cannot bind PersistentVolume \"{volume_name}\" to requested \
                     PersistentVolumeClaim due to incompatible volumeMode."
                );
                recorder.warning(&reference(&claim), "VolumeMismatch", text);
                Ok(())
            }
            "" => {
                self.queue.add(key);
                Ok(())
            }
            bound if bound == name(&volume.metadata) => {
                self.set_phase(volume, "Bound", "").await.map(drop)
            }
            _ if annotation(&volume.metadata, PROVISIONED_BY).is_some()
                && policy(&volume) == "Delete" =>
            {
                self.release(volume).await
            }
            _ => self.unbind(volume).await,
        }
    }

    /// The claim with this UID. Before a claim counts as gone, the API server is asked.
    async fn claim_with(
        &self,
        key: &Key,
        uid: Option<&str>,
    ) -> Result<Option<PersistentVolumeClaim>, Error> {
        let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_deref() == uid;
        let cached = self.claims.get_as::<PersistentVolumeClaim>(&key.namespace, &key.name);
        if let Some(claim) = cached.filter(is_it) {
            return Ok(Some(claim));
        }
        let api = self.context.client.namespaced::<PersistentVolumeClaim>(&key.namespace);
        match api.get(&key.name).await {
            Ok(claim) => Ok(Some(claim).filter(is_it)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A volume whose claim is gone.
    async fn release(&self, volume: PersistentVolume) -> Result<(), Error> {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let volume = match phase {
            Some("Released" | "Failed") => volume,
            _ => self.set_phase(volume, "Released", "").await?,
        };
        let spec = volume.spec.as_ref();
        // Whoever made it outside also destroys it.
        let maker = annotation(&volume.metadata, PROVISIONED_BY).unwrap_or_default();
        let outside = spec.is_some_and(|spec| spec.csi.is_some())
            || (!maker.is_empty() && !maker.starts_with("kubernetes.io/"));
        let name = name(&volume.metadata);
        let (reason, text) = match policy(&volume) {
            "Delete" if !outside => (
                "VolumeFailedDelete",
                format!(
                    "error getting deleter volume plugin for volume \"{name}\": no deletable \
                     volume plugin matched"
                ),
            ),
            "Recycle" => {
                ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())
            }
            _ => return Ok(()),
        };
        if volume.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Failed") {
            let about = reference(&volume);
            self.set_phase(volume, "Failed", &text).await?;
            self.context.recorder.warning(&about, reason, text);
        }
        Ok(())
    }

    /// Frees a volume of a claim that has another one.
    async fn unbind(&self, volume: PersistentVolume) -> Result<(), Error> {
        let mut patch = json!({"spec": {"claimRef": null}});
        match annotation(&volume.metadata, BOUND_BY_CONTROLLER) {
            Some(_) => annotate(&mut patch, BTreeMap::from([(BOUND_BY_CONTROLLER, None)])),
            // A user keeps it for the claim.
            None => patch["spec"]["claimRef"] = json!({"uid": null}),
        }
        let volume = self.patch_volume(&volume, patch).await?;
        self.set_phase(volume, "Available", "").await.map(drop)
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}
