//! Persistent volumes that this node can mount by itself: paths of the node and local disks.

use std::{fs, path::PathBuf};

use apimachinery::object::typed;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{Setup, Volume};
use crate::podspec::PodExt;

/// The volume behind the claim `name`.
pub(super) async fn volume(
    setup: &Setup<'_>,
    name: &str,
    owned: bool,
    read_only: bool,
) -> Result<Volume, String> {
    let namespace = setup.pod.namespace();
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}");
    let claim = crate::requests::get(setup.client, &path)
        .await
        .map_err(|error| format!("failed to fetch PVC from API server: {error}"))?;
    let claim: PersistentVolumeClaim = typed(&claim).map_err(|error| error.to_string())?;
    if owned && !is_owned(&claim, setup.pod.uid()) {
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
            setup.pod.name()
        ));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_owned());
    }
    let bound =
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
    if !bound || volume.is_empty() {
        return Err("PVC is not bound".to_owned());
    }
    let value =
        crate::requests::get(setup.client, &format!("/api/v1/persistentvolumes/{volume}")).await;
    let value =
        value.map_err(|error| format!("failed to fetch PV {volume:?} from API server: {error}"))?;
    let pv: PersistentVolume = typed(&value).map_err(|error| error.to_string())?;
    let spec = pv.spec.unwrap_or_default();
    let mine = spec.claim_ref.as_ref().is_some_and(|c| c.uid == claim.metadata.uid);
    if !mine {
        return Err(format!(
            "found PV object {volume:?} with an incorrect claimRef: another claim has it"
        ));
    }
    let block = spec.volume_mode.as_deref() == Some("Block");
    if let Some(source) = &spec.host_path {
        let (text, kind) = (source.path.clone(), source.type_.clone().unwrap_or_default());
        let check = move || super::host_path::check(&text, &kind).map_err(std::io::Error::other);
        super::blocking(check).await?;
        let path = PathBuf::from(&source.path);
        return Ok(Volume { path, read_only, block, ..Volume::default() });
    }
    if let Some(source) = &spec.local {
        let path = PathBuf::from(&source.path);
        let meta =
            fs::metadata(&path).map_err(|_| format!("path {:?} does not exist", source.path))?;
        use std::os::unix::fs::FileTypeExt;
        if !meta.is_dir() && !meta.file_type().is_block_device() {
            return Err("only directory and block device are supported".to_owned());
        }
        if !block && !meta.is_dir() {
            return Err(format!(
                "local: failed to mount device {}: filesystems on devices are not supported",
                source.path
            ));
        }
        let owned_by_group = !block && !read_only;
        return Ok(Volume { path, read_only, block, owned_by_group, ..Volume::default() });
    }
    Err("no volume plugin matched".to_owned())
}

fn is_owned(claim: &PersistentVolumeClaim, uid: &str) -> bool {
    claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}
