//! Ownership of volumes: the pod's `fsGroup` may read (and write) what is in them.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::Path,
};

const READ_WRITE: u32 = 0o660;
const READ: u32 = 0o440;
const ENTER: u32 = 0o110;
const SET_GID: u32 = 0o2000;

/// Gives everything below and at `path` to `group`, links themselves and not what they lead to.
pub(crate) fn give_to_group(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    give_one(path, &meta, group, read_only);
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to_group(&entry?.path(), group, read_only)?;
        }
    }
    Ok(())
}

/// Gives `path` itself to `group`. As upstream, a file that cannot be given is left as it is.
pub(crate) fn give_one(path: &Path, meta: &fs::Metadata, group: u32, read_only: bool) {
    let given = lchown(path, None, Some(group)).and_then(|()| {
        if meta.is_symlink() {
            return Ok(());
        }
        fs::set_permissions(path, fs::Permissions::from_mode(wanted(meta, read_only)))
    });
    if let Err(error) = given {
        tracing::warn!(path = %path.display(), %error, "file not given to the pod's group");
    }
}

fn wanted(meta: &fs::Metadata, read_only: bool) -> u32 {
    let mut mode = meta.mode() & 0o7777;
    mode |= if read_only { READ } else { READ_WRITE };
    if meta.is_dir() {
        mode |= ENTER | SET_GID;
    }
    mode
}

/// Whether the root of a volume already looks given to `group` (`fsGroupChangePolicy:
/// OnRootMismatch`).
pub(crate) fn root_matches(path: &Path, group: u32, read_only: bool) -> bool {
    fs::metadata(path).is_ok_and(|meta| {
        let mode = meta.mode() & 0o7777;
        meta.is_dir()
            && meta.gid() == group
            && wanted(&meta, read_only) & mode == wanted(&meta, read_only)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_may_read_write_and_enter() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("v");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("f"), "").unwrap();
        fs::set_permissions(root.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
        let group = fs::metadata(&root).unwrap().gid();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!root_matches(&root, group, false));
        give_to_group(&root, group, false).unwrap();
        assert!(root_matches(&root, group, false));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&root), 0o2770);
        assert_eq!(mode(&root.join("f")), 0o660);
    }
}
