//! The image store: what is pulled or imported, by which names, and when it was last used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::config::Credential;
use crate::error::{Error, PullError, Result};
use crate::state::DiskUsage;

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
pub struct ImageStore {}

impl ImageStore {
    /// Pulls an image, or finds that the registry's is in the store already. Credentials are tried
    /// in order, then none.
    pub async fn pull(
        &self,
        reference: &str,
        credentials: &[Credential],
        progress: Option<ProgressFn>,
    ) -> Result<Image, PullError> {
        let _ = (credentials, progress);
        Err(PullError::Unavailable {
            image: reference.to_owned(),
            message: "not available yet".to_owned(),
        })
    }

    /// The image with this id (`sha256:…`), name with tag or name with digest; short names are
    /// completed.
    pub fn get(&self, reference: &str) -> Option<Image> {
        let _ = reference;
        None
    }

    /// All images.
    pub fn list(&self) -> Vec<Image> {
        Vec::new()
    }

    /// Imports an OCI layout or docker-save archive, plain, gzip or zstd, and answers the names
    /// (or, for images without one, the ids) of what was in it.
    pub async fn import(&self, archive: &Path) -> Result<Vec<String>> {
        Err(Error::Invalid(format!("{}: not available yet", archive.display())))
    }

    /// Removes a name; with the last name, or by id, the image with the layers that no other has.
    /// Answers the bytes freed. Fails while a container uses the image.
    pub async fn remove(&self, reference: &str) -> Result<u64> {
        Err(Error::NotFound(reference.to_owned()))
    }

    /// Marks an image as never to be collected, or takes the mark away.
    pub async fn set_pinned(&self, reference: &str, pinned: bool) -> Result<()> {
        let _ = pinned;
        Err(Error::NotFound(reference.to_owned()))
    }

    /// Each image with what garbage collection has to know, least recently used first.
    pub fn usage(&self) -> Vec<ImageUsage> {
        Vec::new()
    }

    /// Space taken by all layers.
    pub fn disk_usage(&self) -> DiskUsage {
        DiskUsage::default()
    }
}
