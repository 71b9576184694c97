//! What is in the image store: records of images, folders of layers, and who uses what.
//!
//! A layer becomes part of the store by one rename, after everything in it has reached the disk,
//! and an image by another, after its layers have. Whatever else is found at a start is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Image, ImageUsage};
use crate::error::{Context, Error, Result};
use crate::layout::Layout;
use crate::state::DiskUsage;
use crate::sync::{lock, read_json, write_json};

/// The store on disk and its index in memory.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) layout: Layout,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// By id.
    images: BTreeMap<String, Entry>,
    /// By digest of the uncompressed layer.
    layers: BTreeMap<String, Layer>,
    next_layer: u64,
    /// Layers that somebody who builds an image counts on.
    reserved: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Entry {
    stored: StoredImage,
    last_used: SystemTime,
    users: usize,
}

/// An image on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredImage {
    pub(super) image: Image,
    /// Digests of the uncompressed layers, bottom first.
    pub(super) layers: Vec<String>,
    pub(super) created: SystemTime,
    #[serde(default)]
    pub(super) pinned: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Layer {
    diff_id: String,
    number: u64,
    bytes: u64,
    inodes: u64,
}

impl Layer {
    fn folder(&self, layout: &Layout) -> PathBuf {
        layout.layers().join(self.number.to_string())
    }
}

/// A layer being unpacked: in a folder of its own, which goes unless it is committed.
#[derive(Debug)]
pub(super) struct NewLayer {
    number: u64,
    folder: PathBuf,
}

impl NewLayer {
    /// Where the files go.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join("fs")
    }
}

impl Drop for NewLayer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Holds layers in the store while an image is being made of them.
#[derive(Debug)]
pub(super) struct Reservation {
    store: Arc<Store>,
    diff_ids: Vec<String>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut index = lock(&self.store.index);
        for diff_id in &self.diff_ids {
            if let Some(count) = index.reserved.get_mut(diff_id) {
                *count -= 1;
                if *count == 0 {
                    index.reserved.remove(diff_id);
                }
            }
        }
    }
}

/// Holds an image in the store while a container uses it.
#[derive(Debug)]
pub(crate) struct ImageHold {
    store: Arc<Store>,
    id: String,
}

impl Drop for ImageHold {
    fn drop(&mut self) {
        if let Some(entry) = lock(&self.store.index).images.get_mut(&self.id) {
            entry.users -= 1;
            entry.last_used = SystemTime::now();
        }
    }
}

impl Store {
    /// Opens the store, and removes what an interruption left half done. Blocking.
    pub(super) fn open(layout: Layout) -> Result<Store> {
        use std::os::unix::fs::PermissionsExt;
        for dir in [layout.layers(), layout.images(), layout.containers()] {
            std::fs::create_dir_all(&dir).at("create", &dir)?;
            // Programs with set-uid bits lie here, for nobody but containers.
            let private = PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(&dir, private).at("set mode of", &dir)?;
        }
        let mut index = Index { next_layer: 1, ..Default::default() };
        for path in entries(&layout.layers())? {
            let Some(layer) = read_layer(&path) else {
                remove(&path);
                continue;
            };
            index.next_layer = index.next_layer.max(layer.number + 1);
            index.layers.insert(layer.diff_id.clone(), layer);
        }
        for path in entries(&layout.images())? {
            match read_json::<StoredImage>(&path) {
                Ok(stored) if stored.layers.iter().all(|l| index.layers.contains_key(l)) => {
                    let last_used = stored.created;
                    let id = stored.image.id.clone();
                    index.images.insert(id, Entry { stored, last_used, users: 0 });
                }
                other => {
                    tracing::warn!(path = %path.display(), error = ?other.err(), "drop image");
                    remove(&path);
                }
            }
        }
        let store = Store { layout, index: Mutex::new(index) };
        store.remove_unused_layers(&mut lock(&store.index));
        Ok(store)
    }

    /// The image of an id, a tagged name or a name with digest.
    pub(super) fn find(&self, reference: &str) -> Option<Image> {
        let index = lock(&self.index);
        find(&index, reference).map(|entry| entry.stored.image.clone())
    }

    pub(super) fn list(&self) -> Vec<Image> {
        lock(&self.index).images.values().map(|entry| entry.stored.image.clone()).collect()
    }

    /// The layers' folders relative to that of all layers, topmost first.
    pub(super) fn layers(&self, id: &str) -> Option<Vec<String>> {
        let index = lock(&self.index);
        let entry = index.images.get(id)?;
        let name = |diff_id: &String| {
            index.layers.get(diff_id).map(|layer| format!("{}/fs", layer.number))
        };
        entry.stored.layers.iter().rev().map(name).collect()
    }

    /// Whether a layer is there, and keeps it and others for the time being.
    pub(super) fn reserve(self: &Arc<Store>, diff_ids: &[String]) -> Reservation {
        let mut index = lock(&self.index);
        for diff_id in diff_ids {
            *index.reserved.entry(diff_id.clone()).or_default() += 1;
        }
        Reservation { store: self.clone(), diff_ids: diff_ids.to_vec() }
    }

    /// The folder of a layer's files, if the layer is there.
    pub(super) fn layer_files(&self, diff_id: &str) -> Option<PathBuf> {
        let index = lock(&self.index);
        Some(index.layers.get(diff_id)?.folder(&self.layout).join("fs"))
    }

    /// A folder for a layer to come. Blocking.
    pub(super) fn new_layer(&self) -> Result<NewLayer> {
        let number = {
            let mut index = lock(&self.index);
            index.next_layer += 1;
            index.next_layer - 1
        };
        let folder = self.layout.layers().join(format!(".new-{number}"));
        let new = NewLayer { number, folder };
        std::fs::create_dir_all(new.files()).at("create", &new.files())?;
        Ok(new)
    }

    /// Makes unpacked layers part of the store, each with its digest, bytes and inodes. They reach
    /// the disk together, once. Blocking.
    pub(super) fn commit(&self, layers: Vec<(NewLayer, String, u64, u64)>) -> Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        let parent = self.layout.layers();
        let mut meta = Vec::new();
        for (new, diff_id, bytes, inodes) in &layers {
            let layer = Layer {
                diff_id: diff_id.clone(),
                number: new.number,
                bytes: *bytes,
                inodes: *inodes,
            };
            write_json(&new.folder.join("layer.json"), &layer, false)?;
            meta.push(layer);
        }
        let dir = std::fs::File::open(&parent).at("open", &parent)?;
        linux::fs::sync_filesystem(&dir).at("sync", &parent)?;
        for ((new, ..), layer) in layers.iter().zip(meta) {
            let mut index = lock(&self.index);
            // Somebody else was quicker with the same layer.
            if index.layers.contains_key(&layer.diff_id) {
                continue;
            }
            let target = layer.folder(&self.layout);
            std::fs::rename(&new.folder, &target).at("rename to", &target)?;
            index.layers.insert(layer.diff_id.clone(), layer);
        }
        dir.sync_all().at("sync", &parent)
    }

    /// Adds an image whose layers are all there, or names to one that is. Tagged names move from
    /// other images. Blocking.
    pub(super) fn add(&self, mut new: StoredImage) -> Result<Image> {
        let mut index = lock(&self.index);
        if let Some(missing) = new.layers.iter().find(|l| !index.layers.contains_key(*l)) {
            return Err(Error::NotFound(format!("layer {missing}")));
        }
        if let Some(old) = index.images.get(&new.image.id) {
            let old = &old.stored;
            merge(&mut new.image.names, &old.image.names);
            merge(&mut new.image.digests, &old.image.digests);
            new.created = old.created;
            new.pinned |= old.pinned;
        }
        // The new one first: at no moment may a name belong to nothing.
        self.write(&new)?;
        let taken: BTreeSet<String> = new.image.names.iter().cloned().collect();
        for entry in index.images.values_mut().filter(|e| e.stored.image.id != new.image.id) {
            let names = &mut entry.stored.image.names;
            let before = names.len();
            names.retain(|name| !taken.contains(name));
            if names.len() != before {
                self.write(&entry.stored)?;
            }
        }
        let image = new.image.clone();
        match index.images.get_mut(&image.id) {
            Some(entry) => entry.stored = new,
            None => {
                let entry = Entry { stored: new, last_used: SystemTime::now(), users: 0 };
                index.images.insert(image.id.clone(), entry);
            }
        }
        Ok(image)
    }

    fn image_file(&self, id: &str) -> PathBuf {
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        self.layout.images().join(format!("{hex}.json"))
    }

    fn write(&self, stored: &StoredImage) -> Result<()> {
        write_json(&self.image_file(&stored.image.id), stored, true)
    }

    pub(super) fn set_pinned(&self, reference: &str, pinned: bool) -> Result<()> {
        let mut index = lock(&self.index);
        let id = find(&index, reference).map(|e| e.stored.image.id.clone());
        let entry = id.and_then(|id| index.images.get_mut(&id));
        let entry = entry.ok_or_else(|| unknown(reference))?;
        if entry.stored.pinned != pinned {
            entry.stored.pinned = pinned;
            self.write(&entry.stored)?;
        }
        Ok(())
    }

    /// Removes a name, or with the last name (or by id) the image. Answers the bytes freed.
    /// Blocking.
    pub(super) fn remove(&self, reference: &str) -> Result<u64> {
        let mut index = lock(&self.index);
        let entry = find(&index, reference).ok_or_else(|| unknown(reference))?;
        let id = entry.stored.image.id.clone();
        let image = &entry.stored.image;
        let name = super::normalized(reference).unwrap_or_default();
        let others = image.names.len() + image.digests.len() > 1;
        if reference != id && image.names.contains(&name) && image.names.len() > 1
            || image.digests.contains(&name) && others
        {
            if let Some(entry) = index.images.get_mut(&id) {
                entry.stored.image.names.retain(|n| *n != name);
                entry.stored.image.digests.retain(|n| *n != name);
                self.write(&entry.stored)?;
            }
            return Ok(0);
        }
        if entry.users > 0 {
            let message = format!("image {reference:?} is used by {} containers", entry.users);
            return Err(Error::Invalid(message));
        }
        let file = self.image_file(&id);
        std::fs::remove_file(&file).at("remove", &file)?;
        index.images.remove(&id);
        Ok(self.remove_unused_layers(&mut index))
    }

    /// Removes layers that belong to nothing, and answers their bytes.
    fn remove_unused_layers(&self, index: &mut Index) -> u64 {
        let used: BTreeSet<&String> =
            index.images.values().flat_map(|e| &e.stored.layers).collect();
        let unused: Vec<Layer> = index
            .layers
            .values()
            .filter(|l| !used.contains(&l.diff_id) && !index.reserved.contains_key(&l.diff_id))
            .cloned()
            .collect();
        let mut freed = 0;
        for layer in unused {
            index.layers.remove(&layer.diff_id);
            freed += layer.bytes;
            let folder = layer.folder(&self.layout);
            let aside = self.layout.layers().join(format!(".old-{}", layer.number));
            match std::fs::rename(&folder, &aside) {
                // Many files; nobody waits for the last of them. What a crash leaves goes at the
                // next start.
                Ok(()) => drop(std::thread::spawn(move || remove(&aside))),
                Err(error) => {
                    tracing::warn!(path = %folder.display(), %error, "remove layer");
                }
            }
        }
        freed
    }

    /// Keeps an image while a container uses it.
    pub(super) fn hold(self: &Arc<Store>, id: &str) -> Option<ImageHold> {
        let mut index = lock(&self.index);
        let entry = index.images.get_mut(id)?;
        entry.users += 1;
        entry.last_used = SystemTime::now();
        Some(ImageHold { store: self.clone(), id: id.to_owned() })
    }

    pub(super) fn usage(&self) -> Vec<ImageUsage> {
        let index = lock(&self.index);
        let mut owners: BTreeMap<&String, usize> = BTreeMap::new();
        for entry in index.images.values() {
            let layers: BTreeSet<&String> = entry.stored.layers.iter().collect();
            layers.into_iter().for_each(|l| *owners.entry(l).or_default() += 1);
        }
        let mut usage: Vec<ImageUsage> = index
            .images
            .values()
            .map(|entry| {
                let layers: BTreeSet<&String> = entry.stored.layers.iter().collect();
                let own = layers.into_iter().filter(|l| owners.get(l) == Some(&1));
                ImageUsage {
                    id: entry.stored.image.id.clone(),
                    unique_bytes: own.filter_map(|l| index.layers.get(l)).map(|l| l.bytes).sum(),
                    created: entry.stored.created,
                    last_used: entry.last_used,
                    in_use: entry.users > 0,
                    pinned: entry.stored.pinned,
                }
            })
            .collect();
        usage.sort_by_key(|u| u.last_used);
        usage
    }

    pub(super) fn disk_usage(&self) -> DiskUsage {
        let index = lock(&self.index);
        DiskUsage {
            bytes: index.layers.values().map(|l| l.bytes).sum(),
            inodes: index.layers.values().map(|l| l.inodes).sum(),
        }
    }
}

fn find<'a>(index: &'a Index, reference: &str) -> Option<&'a Entry> {
    if let Some(entry) = index.images.get(reference) {
        return Some(entry);
    }
    let name = super::normalized(reference)?;
    index.images.values().find(|entry| {
        let image = &entry.stored.image;
        image.names.contains(&name) || image.digests.contains(&name)
    })
}

fn unknown(reference: &str) -> Error {
    Error::NotFound(format!("image {reference:?} not found"))
}

fn merge(into: &mut Vec<String>, from: &[String]) {
    for name in from {
        if !into.contains(name) {
            into.push(name.clone());
        }
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    read().at("read", dir)
}

/// A committed layer; `None` for anything else that lies there.
fn read_layer(path: &Path) -> Option<Layer> {
    let layer: Layer = read_json(&path.join("layer.json")).ok()?;
    (path.file_name()?.to_str()? == layer.number.to_string()).then_some(layer)
}

fn remove(path: &Path) {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "remove");
    }
}
