//! The image store: what is pulled or imported, by which names, and when it was last used.

mod archive;
mod build;
mod implied;
mod manifest;
mod pull;
mod reference;
mod registry;
mod store;
mod stream;
mod unpack;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::config::{Credential, RegistryConfig};
use crate::error::{PullError, Result};
use crate::layout::Layout;
use crate::state::DiskUsage;
use crate::sync::blocking;
use reference::Reference;
pub(crate) use store::ImageHold;
use store::Store;

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// Full names with tags: `docker.io/library/nginx:latest`.
    pub names: Vec<String>,
    /// Full names with digests: `docker.io/library/nginx@sha256:…`.
    pub digests: Vec<String>,
    /// Bytes of the compressed layers, configuration and manifest, as registries count them.
    pub size: u64,
    /// What the image says about running it.
    pub config: ImageConfig,
}

/// The part of an image's configuration that matters for running it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `User`.
    pub user: String,
    /// `StopSignal`.
    pub stop_signal: String,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `Volumes`.
    pub volumes: Vec<String>,
    /// `ExposedPorts`, `80/tcp`.
    pub exposed_ports: Vec<String>,
}

/// An image as garbage collection sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageUsage {
    /// Id of the image.
    pub id: String,
    /// Bytes on disk that would be freed, that is of layers no other image has.
    pub unique_bytes: u64,
    /// When it was pulled or imported.
    pub created: SystemTime,
    /// When a container was last started from it, or else when it was pulled.
    pub last_used: SystemTime,
    /// A container of this runtime uses it.
    pub in_use: bool,
    /// Never to be collected.
    pub pinned: bool,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Compressed bytes of layers received so far.
    pub received: u64,
    /// Compressed bytes of all layers that had to be pulled.
    pub total: u64,
}

/// Called now and then during a pull.
pub type ProgressFn = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// The images of a node. A cheap handle.
#[derive(Clone, Debug)]
pub struct ImageStore {
    store: Arc<Store>,
    pulls: Arc<pull::Pulls>,
}

impl ImageStore {
    /// Opens the store. Blocking.
    pub(crate) fn open(layout: Layout, registries: RegistryConfig) -> Result<ImageStore> {
        let pulls = Arc::new(pull::Pulls::new(registries));
        Ok(ImageStore { store: Arc::new(Store::open(layout)?), pulls })
    }

    /// Pulls an image, or finds that the registry's is in the store already. Credentials are tried
    /// in order, then those of the configuration, then none. Pulls of one image share their work.
    pub async fn pull(
        &self,
        reference: &str,
        credentials: &[Credential],
        progress: Option<ProgressFn>,
    ) -> Result<Image, PullError> {
        self.pulls.pull(&self.store, reference, credentials, progress).await
    }

    /// The image with this id (`sha256:…`), name with tag or name with digest; short names are
    /// completed.
    pub fn get(&self, reference: &str) -> Option<Image> {
        self.store.find(reference)
    }

    /// All images.
    pub fn list(&self) -> Vec<Image> {
        self.store.list()
    }

    /// Imports an OCI layout or docker-save archive, plain, gzip or zstd, and answers the names
    /// (or, for images without one, the ids) of what was in it.
    pub async fn import(&self, archive: &Path) -> Result<Vec<String>> {
        let (store, archive) = (self.store.clone(), archive.to_owned());
        blocking(move || archive::import(&store, &archive)).await
    }

    /// Removes a name; with the last name, or by id, the image with the layers that no other has.
    /// Answers the bytes freed. Fails while a container uses the image.
    pub async fn remove(&self, reference: &str) -> Result<u64> {
        let (store, reference) = (self.store.clone(), reference.to_owned());
        blocking(move || store.remove(&reference)).await
    }

    /// Marks an image as never to be collected, or takes the mark away.
    pub async fn set_pinned(&self, reference: &str, pinned: bool) -> Result<()> {
        let (store, reference) = (self.store.clone(), reference.to_owned());
        blocking(move || store.set_pinned(&reference, pinned)).await
    }

    /// Each image with what garbage collection has to know, least recently used first.
    pub fn usage(&self) -> Vec<ImageUsage> {
        self.store.usage()
    }

    /// Space taken by all layers.
    pub fn disk_usage(&self) -> DiskUsage {
        self.store.disk_usage()
    }

    /// The layers of an image, as folders relative to that of all layers, topmost first, and how
    /// to run it.
    pub(crate) fn layers(&self, id: &str) -> Option<(Vec<String>, ImageConfig)> {
        Some((self.store.layers(id)?, self.store.find(id)?.config))
    }

    /// Keeps an image in the store while a container uses it.
    pub(crate) fn hold(&self, id: &str) -> Option<ImageHold> {
        self.store.hold(id)
    }
}

/// The complete form of a name: with its digest if it has one, else with its tag.
fn normalized(name: &str) -> Option<String> {
    let reference = Reference::parse(name).ok()?;
    match &reference.digest {
        Some(digest) => Some(reference.with_digest(digest)),
        None => reference.tagged(),
    }
}
