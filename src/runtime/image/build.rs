//! From layer streams to an image: what pulls and imports have in common.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::manifest::Config;
use super::reference::is_digest;
use super::store::{NewLayer, Reservation, Store, StoredImage};
use super::stream::{Decompressed, Digesting, digest};
use super::unpack::{Unpacked, unpack};
use super::{Image, implied};
use crate::error::{Error, Result};

/// Most layers that an overlay mount's options have room for.
const MAX_LAYERS: usize = 256;

/// An image whose layers are on their way into the store.
#[derive(Debug)]
pub(super) struct Build {
    store: Arc<Store>,
    config: Config,
    id: String,
    /// For each layer, bottom first, what was unpacked of those that the store lacked.
    unpacked: Vec<Option<(NewLayer, Unpacked)>>,
    /// Keeps those that the store has.
    _reserved: Reservation,
}

/// What is wrong with an image.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::Invalid(message.into())
}

impl Build {
    /// Begins with an image's configuration.
    pub(super) fn new(store: &Arc<Store>, config: &[u8], layers: usize) -> Result<Build> {
        let id = digest(config);
        let config: Config = serde_json::from_slice(config)
            .map_err(|e| invalid(format!("invalid image configuration: {e}")))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != layers {
            let have = diff_ids.len();
            return Err(invalid(format!("configuration has {have} layers, manifest {layers}")));
        }
        if diff_ids.is_empty() || diff_ids.len() > MAX_LAYERS {
            return Err(invalid(format!("unsupported number of layers: {}", diff_ids.len())));
        }
        if let Some(bad) = diff_ids.iter().find(|d| !is_digest(d)) {
            return Err(invalid(format!("invalid layer digest {bad:?}")));
        }
        let reserved = store.reserve(diff_ids);
        let unpacked = diff_ids.iter().map(|_| None).collect();
        Ok(Build { store: store.clone(), config, id, unpacked, _reserved: reserved })
    }

    /// The uncompressed digests of the layers that have to be unpacked, with their places.
    pub(super) fn missing(&self) -> Vec<(usize, String)> {
        let all = self.config.rootfs.diff_ids.iter().enumerate();
        let mut missing: Vec<(usize, String)> = Vec::new();
        for (place, diff_id) in all {
            let known = self.store.layer_files(diff_id).is_some()
                || missing.iter().any(|(_, other)| other == diff_id);
            if !known {
                missing.push((place, diff_id.clone()));
            }
        }
        missing
    }

    /// Takes in what [`unpack_layer`] made.
    pub(super) fn put(&mut self, place: usize, layer: NewLayer, unpacked: Unpacked) {
        if let Some(slot) = self.unpacked.get_mut(place) {
            *slot = Some((layer, unpacked));
        }
    }

    /// Puts the layers that are whole by themselves into the store, although the image will not
    /// be: another attempt need not fetch them again. Blocking.
    pub(super) fn abandon(self) {
        let diff_ids = self.config.rootfs.diff_ids;
        let whole = diff_ids.into_iter().zip(self.unpacked).filter_map(|(diff_id, slot)| {
            let (layer, unpacked) = slot.filter(|(_, u)| u.implied.is_empty())?;
            Some((layer, diff_id, unpacked.bytes, unpacked.inodes))
        });
        if let Err(error) = self.store.commit(whole.collect()) {
            tracing::debug!(%error, "keep layers of an incomplete image");
        }
    }

    /// Settles what the layers owe each other, makes them durable and adds the image. Blocking.
    pub(super) fn finish(
        mut self,
        names: Vec<String>,
        digests: Vec<String>,
        size: u64,
    ) -> Result<Image> {
        let diff_ids = self.config.rootfs.diff_ids.clone();
        // Folders of the layers settled so far, nearest first.
        let mut below: Vec<PathBuf> = Vec::new();
        for (place, diff_id) in diff_ids.iter().enumerate() {
            let files = match &self.unpacked[place] {
                Some((layer, unpacked)) => {
                    let files = layer.files();
                    implied::settle(&files, &unpacked.implied, &below)
                        .map_err(|e| invalid(format!("layer {diff_id}: {e}")))?;
                    files
                }
                None => match self.files_of(diff_id) {
                    Some(files) => files,
                    None => return Err(invalid(format!("layer {diff_id} is missing"))),
                },
            };
            below.insert(0, files);
        }
        let new = diff_ids.iter().zip(self.unpacked.iter_mut()).filter_map(|(diff_id, slot)| {
            let (layer, unpacked) = slot.take()?;
            Some((layer, diff_id.clone(), unpacked.bytes, unpacked.inodes))
        });
        self.store.commit(new.collect())?;
        let image = Image { id: self.id, names, digests, size, config: self.config.image_config() };
        let created = SystemTime::now();
        self.store.add(StoredImage { image, layers: diff_ids, created, pinned: false })
    }

    fn files_of(&self, diff_id: &str) -> Option<PathBuf> {
        let twin = self.config.rootfs.diff_ids.iter().zip(&self.unpacked);
        let mut twins = twin.filter(|(d, _)| *d == diff_id).filter_map(|(_, slot)| slot.as_ref());
        twins.next().map(|(layer, _)| layer.files()).or_else(|| self.store.layer_files(diff_id))
    }
}

/// Unpacks the stream of a layer and holds it to its digests: `diff_id` of the tar stream, and
/// `blob` (digest, size) of the stream as it comes. Blocking.
pub(super) fn unpack_layer(
    store: &Store,
    stream: impl Read,
    diff_id: &str,
    blob: Option<(&str, u64)>,
) -> Result<(NewLayer, Unpacked)> {
    let new = store.new_layer()?;
    let failed = |e: std::io::Error| invalid(format!("layer {diff_id}: {e}"));
    let compressed = Decompressed::new(stream).map_err(failed)?;
    let mut tar = Digesting::new(compressed);
    let unpacked = unpack(&mut tar, &new.files()).map_err(failed)?;
    // To the end, past the padding of the archive, or the digests would not be those of the whole.
    std::io::copy(&mut tar, &mut std::io::sink()).map_err(failed)?;
    let (compressed, got) = tar.split();
    if got != diff_id {
        return Err(invalid(format!("layer {diff_id}: unpacked content has digest {got}")));
    }
    let (got, size) = compressed.finish().map_err(failed)?;
    match blob {
        Some((digest, _)) if got != digest => {
            Err(invalid(format!("layer {digest}: content has digest {got}")))
        }
        Some((digest, expected)) if size != expected => {
            Err(invalid(format!("layer {digest}: content has {size} bytes, not {expected}")))
        }
        _ => Ok((new, unpacked)),
    }
}
