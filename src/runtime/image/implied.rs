//! Folders that a layer uses without containing them.
//!
//! Such a folder is the one of the layers below: its owner and mode are theirs, and where they
//! have a link in its place (`/lib -> usr/lib`), what the layer puts into it belongs behind the
//! link. A layer that is unpacked by itself has to be told, before anybody sees it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use linux::fs;

const OPAQUE: &str = "trusted.overlay.opaque";
const MAX_LINKS: usize = 40;

/// Settles the implied folders of a layer. `below` are the folders of the layers below, the
/// nearest first.
pub(super) fn settle(layer: &Path, implied: &[PathBuf], below: &[PathBuf]) -> io::Result<()> {
    // Links first, deepest last: what moves takes its own implied folders along.
    for path in implied {
        if !layer.join(path).symlink_metadata().is_ok_and(|m| m.is_dir()) {
            // Moved with one above it.
            continue;
        }
        let Some(found) = find(path, below)? else { continue };
        if found.metadata.is_symlink() {
            let target = std::fs::read_link(&found.at)?;
            let target = resolve(path.parent().unwrap_or(Path::new("")), &target, below)?;
            relocate(layer, path, &target, below)?;
        } else if found.metadata.is_dir() {
            copy_attributes(&found.metadata, &layer.join(path))?;
        }
    }
    Ok(())
}

struct Found {
    at: PathBuf,
    metadata: std::fs::Metadata,
}

/// What the merged layers show at a path that has no links in it but perhaps the last.
fn find(path: &Path, below: &[PathBuf]) -> io::Result<Option<Found>> {
    for layer in below {
        let mut at = layer.clone();
        let mut names = path.components().peekable();
        // Whether this layer hides those below it at this path.
        let mut hides = false;
        while let Some(name) = names.next() {
            at.push(name);
            let metadata = match at.symlink_metadata() {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                Err(e) => return Err(e),
            };
            if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                return Ok(None);
            }
            if names.peek().is_none() {
                return Ok(Some(Found { at, metadata }));
            }
            if !metadata.is_dir() {
                // A link or file on the way: nothing below it is visible at this path.
                return Ok(None);
            }
            hides |= fs::get_xattr(&at, OPAQUE)?.is_some();
        }
        if hides {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Follows a link of the merged layers to the path that it stands for.
fn resolve(base: &Path, target: &Path, below: &[PathBuf]) -> io::Result<PathBuf> {
    let mut path = base.to_owned();
    let mut todo: Vec<std::ffi::OsString> = Vec::new();
    let push = |todo: &mut Vec<std::ffi::OsString>, target: &Path| {
        todo.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
    };
    push(&mut todo, target);
    let mut links = 0;
    while let Some(name) = todo.pop() {
        match name.to_str() {
            Some("/") => path.clear(),
            Some(".") => {}
            Some("..") => drop(path.pop()),
            _ => {
                let next = path.join(&name);
                match find(&next, below)? {
                    Some(found) if found.metadata.is_symlink() => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(io::Error::other("too many levels of symbolic links"));
                        }
                        push(&mut todo, &std::fs::read_link(&found.at)?);
                    }
                    _ => path = next,
                }
            }
        }
    }
    Ok(path)
}

/// Moves what is in a folder to where it belongs.
fn relocate(layer: &Path, from: &Path, to: &Path, below: &[PathBuf]) -> io::Result<()> {
    if to.starts_with(from) {
        return Err(io::Error::other(format!("{} leads into itself", from.display())));
    }
    // The target's folders are implied as well, as far as the layer lacks them.
    let mut path = PathBuf::new();
    for name in to.components() {
        path.push(name);
        let own = layer.join(&path);
        match std::fs::create_dir(&own) {
            Ok(()) => {
                if let Some(found) = find(&path, below)?.filter(|f| f.metadata.is_dir()) {
                    copy_attributes(&found.metadata, &own)?;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    merge(&layer.join(from), &layer.join(to))
}

/// Moves everything of one folder into another.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let both =
            entry.file_type()?.is_dir() && target.symlink_metadata().is_ok_and(|m| m.is_dir());
        if both {
            merge(&entry.path(), &target)?;
        } else {
            std::fs::rename(entry.path(), target)?;
        }
    }
    std::fs::remove_dir(from)
}

fn copy_attributes(from: &std::fs::Metadata, to: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else { return Ok(()) };
    let parent = std::fs::File::open(parent)?;
    fs::set_owner(parent.as_fd(), name, from.uid(), from.gid())?;
    fs::set_mode(parent.as_fd(), name, from.mode() & 0o7777)?;
    fs::set_times(parent.as_fd(), name, from.mtime())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn owners_modes_and_links_are_those_of_the_layers_below() {
        let dir = std::env::temp_dir().join(format!("knarr-implied-{}", std::process::id()));
        let (base, middle, top) = (dir.join("base"), dir.join("middle"), dir.join("top"));
        for path in [
            base.join("tmp"),
            base.join("usr/lib"),
            base.join("gone"),
            middle.join("etc"),
            top.join("tmp/x"),
            top.join("lib/sub"),
            top.join("var/run/app"),
            top.join("gone"),
        ] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::set_permissions(base.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        std::fs::set_permissions(base.join("gone"), PermissionsExt::from_mode(0o700)).unwrap();
        symlink("usr/lib", base.join("lib")).unwrap();
        std::fs::create_dir(base.join("var")).unwrap();
        symlink("/run", base.join("var/run")).unwrap();
        std::fs::write(top.join("lib/sub/file"), "f").unwrap();
        // The middle layer removes a folder that the top one uses.
        let middle_dir = std::fs::File::open(&middle).unwrap();
        fs::make_node(middle_dir.as_fd(), "gone".as_ref(), 0o020_000, 0, 0).unwrap();

        let implied = ["tmp", "lib", "var", "var/run", "gone"].map(PathBuf::from);
        settle(&top, &implied, &[middle, base]).unwrap();
        let mode = |path: &str| top.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("tmp"), 0o1777);
        assert_eq!(mode("gone"), 0o755, "the one below is not visible");
        assert_eq!(std::fs::read_to_string(top.join("usr/lib/sub/file")).unwrap(), "f");
        assert!(!top.join("lib").exists());
        assert!(top.join("run/app").is_dir() && !top.join("var/run").exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
