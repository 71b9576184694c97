//! The volumes of a pod: made before its containers, kept current while it runs, removed after it.
//!
//! Volumes that show objects of the API lie on a filesystem in memory that all pods share, so that
//! secrets and tokens never reach a disk; they are read-only for containers. The others lie in the
//! pod's own folder.

pub(crate) mod atomic;
pub(crate) mod certificates;
mod claims;
mod empty_dir;
mod host_path;
pub(crate) mod mounts;
mod ownership;
mod payload;
pub(crate) mod safe;
pub(crate) mod subpath;
pub(crate) mod tokens;
pub(crate) mod trust_bundles;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use certificates::Certificates;
use client::Client;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Volume as Spec, VolumeMount};
use nix::mount::{MsFlags, mount};
use payload::Contents;
use tokens::Tokens;
use trust_bundles::TrustBundles;

use crate::{
    env::Facts,
    objects::Objects,
    podspec::{PodExt, plain},
};

/// Where the folders of pods lie.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// On disk: `<uid>` with what a pod keeps.
    pods: PathBuf,
    /// In memory: `<uid>` with what pods are shown of the API.
    shown: PathBuf,
}

impl Folders {
    /// Makes the folders and mounts the filesystem in memory, unless it is mounted already.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let folders = Self { pods: data_dir.join("pods"), shown: data_dir.join("api-volumes") };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o750);
        builder.create(&folders.pods)?;
        builder.create(&folders.shown)?;
        if !mounts::is_mount_point(&folders.shown)? {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("tmpfs"), &folders.shown, Some("tmpfs"), flags, Some("mode=0750"))?;
        }
        Ok(folders)
    }

    /// Everything that a pod has on disk.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    fn shown(&self, uid: &str) -> PathBuf {
        self.shown.join(uid)
    }

    /// The pods that have left a folder.
    pub(crate) fn known(&self) -> Vec<String> {
        let mut uids = Vec::new();
        for folder in [&self.pods, &self.shown] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let Ok(name) = entry.file_name().into_string()
                    && !uids.contains(&name)
                {
                    uids.push(name);
                }
            }
        }
        uids
    }

    /// Makes the pod's own folder.
    pub(crate) fn make(&self, uid: &str) -> io::Result<PathBuf> {
        let path = self.pod(uid);
        fs::DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
        Ok(path)
    }

    /// Unmounts and removes everything of a pod. No error when nothing is there.
    pub(crate) fn remove(&self, uid: &str) -> io::Result<()> {
        for path in [self.pod(uid), self.shown(uid)] {
            if fs::symlink_metadata(&path).is_err() {
                continue;
            }
            mounts::unmount_below(&path)?;
            // Nothing is mounted below any more: what is removed is the pod's own.
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A volume that can be mounted into containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volume {
    /// Path on the host.
    pub(crate) path: PathBuf,
    /// Read-only for everybody.
    pub(crate) read_only: bool,
    /// The id of the image that it shows; then there is no path.
    pub(crate) image: Option<String>,
    /// A block device to be handed in, not a folder.
    pub(crate) block: bool,
    /// The pod's group is to own what is in it.
    owned_by_group: bool,
}

/// The volumes of a pod by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volumes {
    pub(crate) by_name: HashMap<String, Volume>,
    /// When some of them have to be made anew even if no object changes.
    pub(crate) refresh: Option<Timestamp>,
}

/// A volume that cannot be made: the message of FailedMount.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) volume: String,
    pub(crate) message: String,
}

/// What the volumes of a pod are made of.
pub(crate) struct Setup<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) client: &'a Client,
    pub(crate) objects: &'a Objects,
    pub(crate) tokens: &'a Tokens,
    pub(crate) certificates: &'a Certificates,
    pub(crate) trust_bundles: &'a TrustBundles,
    pub(crate) folders: &'a Folders,
    pub(crate) facts: Facts<'a>,
    /// `fsGroup`.
    pub(crate) fs_group: Option<u32>,
    /// Ids of the images of image volumes, by volume name.
    pub(crate) images: &'a HashMap<String, String>,
}

/// Makes all volumes of a pod that its containers mount, or brings them up to date.
pub(crate) async fn set_up(setup: &Setup<'_>) -> Result<Volumes, Failure> {
    let mut volumes = Volumes::default();
    let used = used_volumes(setup.pod);
    for spec in setup.pod.spec_or_empty().volumes.iter().flatten() {
        if !used.contains(&spec.name) {
            continue;
        }
        let failure = |message| Failure { volume: spec.name.clone(), message };
        let (volume, refresh) = one(setup, spec).await.map_err(failure)?;
        volumes.refresh = [volumes.refresh, refresh].into_iter().flatten().min();
        volumes.by_name.insert(spec.name.clone(), volume);
    }
    Ok(volumes)
}

/// Brings the volumes that show objects of the API up to date.
pub(crate) async fn refresh(setup: &Setup<'_>) -> Result<Option<Timestamp>, Failure> {
    let mut due = None;
    let used = used_volumes(setup.pod);
    for spec in setup.pod.spec_or_empty().volumes.iter().flatten() {
        if used.contains(&spec.name) && shows_api(spec) {
            let failure = |message| Failure { volume: spec.name.clone(), message };
            let (_, refresh) = one(setup, spec).await.map_err(failure)?;
            due = [due, refresh].into_iter().flatten().min();
        }
    }
    Ok(due)
}

fn shows_api(spec: &Spec) -> bool {
    spec.config_map.is_some()
        || spec.secret.is_some()
        || spec.projected.is_some()
        || spec.downward_api.is_some()
}

/// The names of the volumes that some container mounts.
fn used_volumes(pod: &Pod) -> Vec<String> {
    let ephemeral: Vec<Container> = pod.ephemeral_containers().iter().map(plain).collect();
    pod.containers()
        .iter()
        .chain(pod.init_containers())
        .chain(&ephemeral)
        .flat_map(|c| {
            let mounts = c.volume_mounts.iter().flatten().map(|m| m.name.clone());
            let devices = c.volume_devices.iter().flatten().map(|d| d.name.clone());
            mounts.chain(devices)
        })
        .collect()
}

async fn one(setup: &Setup<'_>, spec: &Spec) -> Result<(Volume, Option<Timestamp>), String> {
    let uid = setup.pod.uid();
    let name = &spec.name;
    let in_memory = |plugin: &str| setup.folders.shown(uid).join(plugin).join(name);
    if let Some(source) = &spec.empty_dir {
        let path =
            setup.folders.pod(uid).join("volumes").join("kubernetes.io~empty-dir").join(name);
        let kind = empty_dir::Kind::of(source, setup.pod, setup.facts.allocatable_memory)?;
        let group = setup.fs_group;
        let path = blocking(move || {
            let new = !path.exists();
            empty_dir::set_up(&path, &kind)?;
            if let (Some(group), true) = (group, new) {
                ownership::give_to_group(&path, group, false)?;
            }
            Ok(path)
        })
        .await?;
        return Ok((Volume { path, ..Volume::default() }, None));
    }
    if let Some(source) = &spec.host_path {
        let (path, kind) = (source.path.clone(), source.type_.clone().unwrap_or_default());
        blocking(move || host_path::check(&path, &kind).map_err(io::Error::other)).await?;
        return Ok((Volume { path: PathBuf::from(&source.path), ..Volume::default() }, None));
    }
    if let Some(source) = &spec.config_map {
        let path = in_memory("kubernetes.io~configmap");
        return show(setup, name, path, payload::config_map(setup, source).await?).await;
    }
    if let Some(source) = &spec.secret {
        let path = in_memory("kubernetes.io~secret");
        return show(setup, name, path, payload::secret(setup, source).await?).await;
    }
    if let Some(source) = &spec.projected {
        let path = in_memory("kubernetes.io~projected");
        return show(setup, name, path, payload::projected(setup, name, source).await?).await;
    }
    if let Some(source) = &spec.downward_api {
        let path = in_memory("kubernetes.io~downward-api");
        let files = payload::downward_api(setup, source.items.as_ref(), source.default_mode)?;
        return show(setup, name, path, Contents { files, refresh: None }).await;
    }
    if let Some(source) = &spec.persistent_volume_claim {
        let read_only = source.read_only == Some(true);
        let volume = claims::volume(setup, &source.claim_name, false, read_only).await?;
        give_claim(setup, &volume).await?;
        return Ok((volume, None));
    }
    if spec.ephemeral.is_some() {
        let claim = format!("{}-{name}", setup.pod.name());
        let volume = claims::volume(setup, &claim, true, false).await?;
        give_claim(setup, &volume).await?;
        return Ok((volume, None));
    }
    if spec.image.is_some() {
        let image = setup.images.get(name).cloned();
        return Ok((Volume { image, read_only: true, ..Volume::default() }, None));
    }
    Err("no volume plugin matched".to_owned())
}

/// Runs file system calls where they may block.
async fn blocking<T, F>(work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn give_claim(setup: &Setup<'_>, volume: &Volume) -> Result<(), String> {
    let (Some(group), true) = (setup.fs_group, volume.owned_by_group) else { return Ok(()) };
    let context = setup.pod.spec_or_empty().security_context.as_ref();
    let policy = context.and_then(|c| c.fs_group_change_policy.as_deref());
    let on_mismatch = policy == Some("OnRootMismatch");
    let path = volume.path.clone();
    blocking(move || {
        if on_mismatch && ownership::root_matches(&path, group, false) {
            return Ok(());
        }
        ownership::give_to_group(&path, group, false)
    })
    .await
}

/// Writes files into a volume in memory.
async fn show(
    setup: &Setup<'_>,
    name: &str,
    path: PathBuf,
    contents: Contents,
) -> Result<(Volume, Option<Timestamp>), String> {
    let nested = nested_mount_points(setup.pod, name);
    let group = setup.fs_group;
    let Contents { files, refresh } = contents;
    let path = blocking(move || {
        fs::create_dir_all(&path)?;
        let mode = |path: &Path| fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777);
        if mode(&path)? != 0o777 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
            if let Some(group) = group {
                ownership::give_one(&path, &fs::metadata(&path)?, group, true);
            }
        }
        for nested in nested {
            fs::create_dir_all(path.join(nested))?;
        }
        atomic::write(&path, &files, |new| match group {
            Some(group) => ownership::give_to_group(new, group, true),
            None => Ok(()),
        })?;
        Ok(path)
    })
    .await?;
    Ok((Volume { path, read_only: true, ..Volume::default() }, refresh))
}

/// Where other volumes are mounted within this one: the folders must be there, for nobody can make
/// them in a read-only volume.
fn nested_mount_points(pod: &Pod, volume: &str) -> Vec<PathBuf> {
    let normal = |mount: &VolumeMount| -> PathBuf {
        let path = Path::new(&mount.mount_path);
        path.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect()
    };
    let mut nested = Vec::new();
    for container in pod.containers().iter().chain(pod.init_containers()) {
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let whole = |m: &&VolumeMount| m.sub_path.as_deref().unwrap_or_default().is_empty();
        for own in mounts.iter().filter(whole).filter(|m| m.name == volume) {
            let own = normal(own);
            for other in mounts {
                if let Ok(below) = normal(other).strip_prefix(&own)
                    && !below.as_os_str().is_empty()
                {
                    nested.push(below.to_owned());
                }
            }
        }
    }
    nested
}
