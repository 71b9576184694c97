//! Importing image archives: OCI layouts and what `docker save` writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::build::{Build, invalid, unpack_layer};
use super::manifest::{Descriptor, Manifest, select};
use super::normalized;
use super::reference::{Reference, is_digest};
use super::store::Store;
use super::stream::{Decompressed, digest};
use crate::error::{Context, Result};

/// Largest manifest, index or configuration that is read.
const MAX_JSON: u64 = 8 << 20;
/// Largest archive when decompressed.
const MAX_ARCHIVE: u64 = 256 << 30;
/// Indexes within indexes.
const MAX_DEPTH: u32 = 4;

/// The members of a tar file, by their places in it.
struct Members {
    file: File,
    places: BTreeMap<PathBuf, Place>,
}

#[derive(Clone, Debug)]
enum Place {
    File { offset: u64, size: u64 },
    Link(PathBuf),
}

/// A member's bytes.
struct Member<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Member<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buf[..want], self.offset)?;
        if n == 0 && self.left > 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A path in an archive, without `.`, `..` and leading slashes.
fn clean(base: &Path, path: &Path) -> PathBuf {
    let mut clean = base.to_owned();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

impl Members {
    fn open(path: &Path, scratch: &Path) -> Result<Members> {
        let mut file = File::open(path).at("open", path)?;
        let mut magic = [0; 4];
        let n = file.read(&mut magic).at("read", path)?;
        file.seek(SeekFrom::Start(0)).at("read", path)?;
        let compressed = matches!(magic[..n], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]);
        if compressed {
            file = decompress(file, scratch).at("decompress", path)?;
        }
        let places = scan(&file).at("read archive", path)?;
        Ok(Members { file, places })
    }

    fn find(&self, path: impl AsRef<Path>) -> Option<Member<'_>> {
        let mut path = clean(Path::new(""), path.as_ref());
        for _ in 0..8 {
            match self.places.get(&path)? {
                Place::File { offset, size } => {
                    return Some(Member { file: &self.file, offset: *offset, left: *size });
                }
                Place::Link(target) => path = target.clone(),
            }
        }
        None
    }

    fn small(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let Some(mut member) = self.find(path) else { return Ok(None) };
        if member.left > MAX_JSON {
            return Err(invalid(format!("{} is too large", path.display())));
        }
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).at("read", path)?;
        Ok(Some(bytes))
    }

    /// A blob of an OCI layout, which must have its digest.
    fn small_blob(&self, wanted: &str) -> Result<Vec<u8>> {
        let bytes = self.small(blob_path(wanted)?)?;
        let bytes = bytes.ok_or_else(|| invalid(format!("archive lacks {wanted}")))?;
        let got = digest(&bytes);
        if got != wanted {
            return Err(invalid(format!("{wanted} has digest {got}")));
        }
        Ok(bytes)
    }
}

fn blob_path(digest: &str) -> Result<PathBuf> {
    if !is_digest(digest) {
        return Err(invalid(format!("unsupported digest {digest:?}")));
    }
    Ok(Path::new("blobs").join(digest.replacen(':', "/", 1)))
}

/// Puts a compressed archive into a file without a name, to be able to jump in it.
fn decompress(file: File, scratch: &Path) -> io::Result<File> {
    let name = format!(".import-{}-{}", linux::process::own_pid(), linux::process::now().1);
    let path = scratch.join(name);
    let mut plain = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let mut reader = Decompressed::new(file)?.take(MAX_ARCHIVE);
    io::copy(&mut reader, &mut plain)?;
    plain.flush()?;
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}

fn scan(file: &File) -> io::Result<BTreeMap<PathBuf, Place>> {
    let length = file.metadata()?.len();
    let mut archive = tar::Archive::new(file);
    let mut places = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = clean(Path::new(""), &entry.path()?);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                let cut = format!("it ends within {}", path.display());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut));
            }
            places.insert(path, Place::File { offset, size });
        } else if let Some(target) = entry.link_name()?.filter(|_| !kind.is_dir()) {
            // Older archives have links from one image's layer to another's.
            let base = if kind.is_symlink() {
                path.parent().unwrap_or(Path::new(""))
            } else {
                Path::new("")
            };
            places.insert(path.clone(), Place::Link(clean(base, &target)));
        }
    }
    Ok(places)
}

/// One image of a docker archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Imports an archive and answers the names of what was in it. Blocking.
pub(super) fn import(store: &Arc<Store>, path: &Path) -> Result<Vec<String>> {
    let members = Members::open(path, &store.layout.data)?;
    // Newer docker archives are OCI layouts as well, but only manifest.json has all the names.
    if let Some(manifest) = members.small("manifest.json")? {
        let images: Vec<DockerImage> = serde_json::from_slice(&manifest)
            .map_err(|e| invalid(format!("manifest.json: {e}")))?;
        let imported = images.iter().map(|image| import_docker(store, &members, image));
        return Ok(imported.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect());
    }
    let index = members.small("index.json")?;
    let index = index.ok_or_else(|| {
        invalid(format!("{}: neither an OCI layout nor a docker archive", path.display()))
    })?;
    let index: Manifest =
        serde_json::from_slice(&index).map_err(|e| invalid(format!("index.json: {e}")))?;
    // One image may stand there several times, once for each of its names.
    let mut by_digest: Vec<(Descriptor, Vec<String>)> = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let name = name_of(&descriptor)?;
        match by_digest.iter_mut().find(|(d, _)| d.digest == descriptor.digest) {
            Some((_, names)) => names.extend(name),
            None => by_digest.push((descriptor, name.into_iter().collect())),
        }
    }
    let mut imported = Vec::new();
    for (descriptor, names) in by_digest {
        imported.extend(import_oci(store, &members, &descriptor, names)?);
    }
    Ok(imported)
}

/// The name that an index gives an image; a bare tag is none.
fn name_of(descriptor: &Descriptor) -> Result<Option<String>> {
    let full = descriptor.annotations.get("io.containerd.image.name");
    let short = descriptor.annotations.get("org.opencontainers.image.ref.name");
    match full.or(short.filter(|name| name.contains(['/', ':']))) {
        None => Ok(None),
        Some(name) => {
            let name = normalized(name).ok_or_else(|| invalid(format!("image name {name:?}")))?;
            Ok(Some(name))
        }
    }
}

fn import_oci(
    store: &Arc<Store>,
    members: &Members,
    descriptor: &Descriptor,
    names: Vec<String>,
) -> Result<Vec<String>> {
    let parse = |bytes: &[u8], what: &str| -> Result<Manifest> {
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("{what}: {e}")))
    };
    let top = descriptor.digest.clone();
    let mut wanted = top.clone();
    let mut bytes = members.small_blob(&wanted)?;
    let mut manifest = parse(&bytes, &wanted)?;
    for _ in 0..MAX_DEPTH {
        let Some(manifests) = &manifest.manifests else { break };
        // An archive may hold fewer platforms than its index names.
        let present: Vec<Descriptor> = manifests
            .iter()
            .filter(|m| blob_path(&m.digest).is_ok_and(|p| members.places.contains_key(&p)))
            .cloned()
            .collect();
        let chosen = select(&present)
            .ok_or_else(|| invalid(format!("{wanted}: no manifest for this machine's platform")))?;
        wanted = chosen.digest.clone();
        bytes = members.small_blob(&wanted)?;
        manifest = parse(&bytes, &wanted)?;
    }
    let config = manifest.config.ok_or_else(|| invalid(format!("{wanted}: no configuration")))?;
    let config_bytes = members.small_blob(&config.digest)?;
    let layers = manifest.layers;
    let size = bytes.len() as u64 + config_bytes.len() as u64;
    let size = size + layers.iter().map(|l| l.size).sum::<u64>();
    let digests = names
        .iter()
        .filter_map(|name| Some(Reference::parse(name).ok()?.with_digest(&top)))
        .collect();
    let mut build = Build::new(store, &config_bytes, layers.len())?;
    for (place, diff_id) in build.missing() {
        let layer = &layers[place];
        let blob = members.find(blob_path(&layer.digest)?);
        let blob = blob.ok_or_else(|| invalid(format!("archive lacks layer {}", layer.digest)))?;
        let expected = Some((layer.digest.as_str(), layer.size));
        let (new, unpacked) = unpack_layer(store, blob, &diff_id, expected)?;
        build.put(place, new, unpacked);
    }
    told(build, names, digests, size)
}

fn import_docker(
    store: &Arc<Store>,
    members: &Members,
    image: &DockerImage,
) -> Result<Vec<String>> {
    let config = members.small(&image.config)?;
    let config = config.ok_or_else(|| invalid(format!("archive lacks {}", image.config)))?;
    let mut names = Vec::new();
    for tag in image.repo_tags.iter().flatten() {
        names.push(normalized(tag).ok_or_else(|| invalid(format!("image name {tag:?}")))?);
    }
    let mut build = Build::new(store, &config, image.layers.len())?;
    let mut size = config.len() as u64;
    for layer in &image.layers {
        size += members.find(layer).map_or(0, |member| member.left);
    }
    for (place, diff_id) in build.missing() {
        let layer = &image.layers[place];
        let blob = members.find(layer);
        let blob = blob.ok_or_else(|| invalid(format!("archive lacks layer {layer:?}")))?;
        let (new, unpacked) = unpack_layer(store, blob, &diff_id, None)?;
        build.put(place, new, unpacked);
    }
    told(build, names, Vec::new(), size)
}

/// Finishes an image, and answers what it is called.
fn told(build: Build, names: Vec<String>, digests: Vec<String>, size: u64) -> Result<Vec<String>> {
    let image = build.finish(names.clone(), digests, size)?;
    Ok(if names.is_empty() { vec![image.id] } else { names })
}
