//! Unpacking a layer: a tar stream from strangers becomes a folder for overlayfs.
//!
//! Every path is looked up within the layer's own folder, so neither `..` nor links lead out.
//! Whiteouts become what overlayfs understands. A layer is unpacked by itself, without those below
//! it; folders that it takes for granted are reported, because their owners and modes (and links
//! in their place) are those of the layers below, see [`super::implied`].

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use linux::fs::{self, Root};
use tar::{Entry, EntryType};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Marks of aufs, of no meaning here.
const RESERVED: &[u8] = b".wh..wh.";

const MAX_ENTRIES: u64 = 4_000_000;

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFIFO: u32 = 0o010_000;

/// What a layer turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of file content.
    pub(crate) bytes: u64,
    /// Files, folders and links.
    pub(crate) inodes: u64,
    /// Folders that the layer uses but does not contain, parents first.
    pub(crate) implied: Vec<PathBuf>,
}

/// Unpacks a tar stream into an empty folder.
pub(crate) fn unpack(reader: impl Read, folder: &Path) -> io::Result<Unpacked> {
    let mut archive = tar::Archive::new(reader);
    let mut unpacker = Unpacker {
        root: Root::open(folder)?,
        parent: None,
        implied: Vec::new(),
        explicit: BTreeSet::new(),
        folder_times: Vec::new(),
        result: Unpacked::default(),
        buffer: vec![0; 64 << 10],
    };
    for entry in archive.entries()? {
        unpacker.entry(entry?)?;
    }
    unpacker.finish()
}

struct Unpacker {
    root: Root,
    /// The folder of the last entry, which is often that of the next one.
    parent: Option<(PathBuf, OwnedFd)>,
    implied: Vec<PathBuf>,
    explicit: BTreeSet<PathBuf>,
    /// Set at the end: every new entry changes its folder's.
    folder_times: Vec<(PathBuf, i64)>,
    result: Unpacked,
    buffer: Vec<u8>,
}

/// The path of an entry below the root; an error when it wants out.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid(format!("path {:?} leaves the layer", path.display())));
            }
        }
    }
    Ok(clean)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl Unpacker {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> io::Result<()> {
        self.result.inodes += 1;
        if self.result.inodes > MAX_ENTRIES {
            return Err(invalid("layer has too many entries".to_owned()));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let shown = entry.path()?.into_owned();
        let path = clean(&shown)?;
        let added = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let (parent, name) = (parent.to_owned(), name.to_owned());
                self.add(&mut entry, kind, &parent, &name)
            }
            // The root itself, which is a folder whatever the entry says.
            _ => Ok(()),
        };
        added.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", shown.display())))
    }

    /// The folder for an entry.
    fn parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((known, fd)) = &self.parent
            && known == path
        {
            return fd.try_clone();
        }
        let implied = &mut self.implied;
        let fd = self.root.make_folders(path, &mut |made| implied.push(made.to_owned()))?;
        self.parent = Some((path.to_owned(), fd.try_clone()?));
        Ok(fd)
    }

    fn add<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        parent: &Path,
        name: &OsStr,
    ) -> io::Result<()> {
        let dir = self.parent(parent)?;
        let dir = dir.as_fd();
        if name.as_bytes() == OPAQUE {
            return self.set_opaque(dir, OsStr::new("."));
        }
        if name.as_bytes().starts_with(RESERVED) {
            return Ok(());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(dir, OsStr::from_bytes(hidden));
        }
        let replaced = self.make_room(dir, name, kind)?;
        let (major, minor) = device(entry);
        let mode = entry.header().mode()? & 0o7777;
        match kind {
            EntryType::Directory => {
                if replaced != Replaced::Folder {
                    fs::make_folder(dir, name, 0o755)?;
                }
                if replaced == Replaced::Whiteout {
                    // The layer removes what was below and makes it anew.
                    self.set_opaque(dir, name)?;
                }
                let path = parent.join(name);
                let time = entry.header().mtime().unwrap_or(0) as i64;
                self.folder_times.push((path.clone(), time));
                self.explicit.insert(path);
            }
            EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| invalid("no target".to_owned()))?;
                return self.hard_link(&clean(&target)?, dir, name);
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| invalid("no target".to_owned()))?;
                fs::make_link(dir, name, target.as_os_str())?;
            }
            EntryType::Char => fs::make_node(dir, name, S_IFCHR | mode, major, minor)?,
            EntryType::Block => fs::make_node(dir, name, S_IFBLK | mode, major, minor)?,
            EntryType::Fifo => fs::make_node(dir, name, S_IFIFO | mode, 0, 0)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = fs::make_file(dir, name, 0o600)?;
                self.copy(entry, &mut file)?;
            }
            other => return Err(invalid(format!("unknown kind of entry {other:?}"))),
        }
        self.attributes(entry, kind, dir, name, mode)
    }

    fn copy<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        file: &mut std::fs::File,
    ) -> io::Result<()> {
        loop {
            let n = entry.read(&mut self.buffer)?;
            if n == 0 {
                return Ok(());
            }
            file.write_all(&self.buffer[..n])?;
            self.result.bytes += n as u64;
        }
    }

    /// Owner, mode, extended attributes and time; in this order, because each of the first takes
    /// something of the next away.
    fn attributes<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        mode: u32,
    ) -> io::Result<()> {
        let id = |value: u64| {
            u32::try_from(value).map_err(|_| invalid(format!("user or group {value}")))
        };
        let (uid, gid) = (id(entry.header().uid()?)?, id(entry.header().gid()?)?);
        fs::set_owner(dir, name, uid, gid)?;
        if kind != EntryType::Symlink {
            fs::set_mode(dir, name, mode)?;
        }
        let time = entry.header().mtime().unwrap_or(0) as i64;
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let Some(key) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
            if kind == EntryType::Symlink || !allowed_attribute(key) {
                continue;
            }
            match fs::set_xattr(dir, name, OsStr::from_bytes(key), extension.value_bytes()) {
                // The filesystem below has none of this kind.
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
                other => other?,
            }
        }
        fs::set_times(dir, name, time)
    }

    /// Takes away what an entry replaces.
    fn make_room(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        kind: EntryType,
    ) -> io::Result<Replaced> {
        let Some(mode) = fs::mode_at(dir, name)? else { return Ok(Replaced::Nothing) };
        if mode & S_IFMT == S_IFDIR {
            if kind == EntryType::Directory {
                return Ok(Replaced::Folder);
            }
            self.parent = None;
            remove_tree(dir, name)?;
            return Ok(Replaced::Nothing);
        }
        let whiteout = mode & S_IFMT == S_IFCHR && mode & 0o777 == 0;
        fs::remove(dir, name, false)?;
        Ok(if whiteout { Replaced::Whiteout } else { Replaced::Nothing })
    }

    /// Hides a name of the layers below. What this layer itself has stays.
    fn whiteout(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        if name.is_empty() || name == "." || name == ".." {
            return Err(invalid("whiteout of nothing".to_owned()));
        }
        match fs::mode_at(dir, name)? {
            Some(mode) if mode & S_IFMT == S_IFDIR => self.set_opaque(dir, name),
            Some(_) => Ok(()),
            None => fs::make_node(dir, name, S_IFCHR, 0, 0),
        }
    }

    fn set_opaque(&self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        fs::set_xattr(dir, name, OsStr::new("trusted.overlay.opaque"), b"y")
    }

    fn hard_link(&mut self, target: &Path, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let (Some(folder), Some(file)) = (target.parent(), target.file_name()) else {
            return Err(invalid("hard link to the root".to_owned()));
        };
        let missing = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => {
                invalid(format!("hard link to {:?}, which the layer lacks", target.display()))
            }
            _ => e,
        };
        let folder = self.root.find(folder).map_err(missing)?;
        fs::make_hard_link((folder.as_fd(), file), (dir, name)).map_err(missing)
    }

    fn finish(mut self) -> io::Result<Unpacked> {
        // Deepest first does not matter: setting a time changes no other.
        for (path, time) in std::mem::take(&mut self.folder_times) {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            // Replaced later by something else.
            let Ok(parent) = self.root.find(parent) else { continue };
            let _ = fs::set_times(parent.as_fd(), name, time);
        }
        let explicit = std::mem::take(&mut self.explicit);
        self.implied.retain(|path| !explicit.contains(path));
        self.result.implied = self.implied;
        Ok(self.result)
    }
}

/// What was in an entry's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaced {
    Nothing,
    /// A folder, for another folder: kept.
    Folder,
    Whiteout,
}

fn device<R: Read>(entry: &Entry<'_, R>) -> (u32, u32) {
    let header = entry.header();
    let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
    (number(header.device_major()), number(header.device_minor()))
}

/// Attributes that a stranger's layer may set. Those of overlayfs itself would let it show files
/// of other layers, and the rest are not an image's business.
fn allowed_attribute(key: &[u8]) -> bool {
    key.starts_with(b"user.") || key == b"security.capability"
}

/// Removes a name with everything below it, following nothing.
fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let mut path = OsString::from(linux::mount::path_of(dir));
    path.push("/");
    path.push(name);
    std::fs::remove_dir_all(path)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
