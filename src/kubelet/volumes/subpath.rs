//! Parts of volumes: `subPath` and `subPathExpr` of a volume mount.
//!
//! A container may replace any folder of a volume by a link at any time, so the part is opened once
//! by the kernel's own rules and that very handle is bound to a path of ours, which the runtime is
//! given.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::stat::{SFlag, fstat},
};

use super::{mounts::is_mount_point, safe};

/// Where the parts of a pod's volumes are bound.
pub(crate) fn folder(pod_dir: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    pod_dir.join("volume-subpaths").join(volume).join(container).join(index.to_string())
}

/// Makes `part` of `volume` if it is not there and binds it to `target`.
pub(crate) fn bind(volume: &Path, part: &Path, target: &Path) -> io::Result<()> {
    if !safe::is_local(part) {
        return Err(io::Error::other("must not leave the volume"));
    }
    let handle = match safe::open_below(volume, part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mode = nix::sys::stat::stat(volume)?.st_mode & 0o7777;
            safe::make_below(volume, part, mode)?;
            safe::open_below(volume, part)?
        }
        other => other?,
    };
    let stat = fstat(handle.as_fd())?;
    let is_folder = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if is_folder {
        fs::create_dir_all(target)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    if is_mount_point(target).unwrap_or(false) {
        // Left by an earlier instance of the container; its part may be another one by now.
        nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH)?;
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&safe::handle_path(&handle)), target, None::<&str>, flags, None::<&str>)?;
    Ok(())
}
