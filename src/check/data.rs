//! The data directory: whether it can be written, has room, and can hold the layers of containers.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use linux::{fs, mount, procfs};

use super::Finding;

/// With less, an ordinary image may not fit.
const ROOM: u64 = 2 << 30;
/// With less, not even the database has a future.
const NO_ROOM: u64 = 32 << 20;

/// All about the data directory, whether it is there yet or not.
pub(super) fn directory(data: &Path) -> Vec<Finding> {
    let place = existing(data);
    let mut findings = Vec::new();
    match fs::usage(place) {
        Ok(usage) => findings.push(room(place, usage.available, usage.inodes, usage.inodes_free)),
        Err(error) => findings.push(Finding::warning("disk", format!("not known ({error})"), "")),
    }
    findings.extend(layers(data));
    findings
}

/// What keeps containers from having a file tree.
pub(super) fn overlay(data: &Path) -> Option<Finding> {
    layers(data)
}

fn room(place: &Path, available: u64, inodes: u64, inodes_free: u64) -> Finding {
    let free = match available {
        ROOM.. => format!("{:.1} GB free at {}", available as f64 / 1e9, place.display()),
        _ => format!("{} MB free at {}", available / 1_000_000, place.display()),
    };
    let other = "make room or choose another --data-dir";
    if available < NO_ROOM {
        Finding::missing("disk", free, other)
    } else if available < ROOM {
        Finding::warning("disk", format!("only {free}"), other)
    } else if inodes > 0 && inodes_free * 20 < inodes {
        let found = format!("{free}, but inodes for {inodes_free} files only");
        Finding::warning("disk", found, "remove files or choose another --data-dir")
    } else {
        Finding::ok("disk", free)
    }
}

/// The folder itself, or the one that it is going to be made in.
fn existing(data: &Path) -> &Path {
    data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"))
}

fn layers(data: &Path) -> Option<Finding> {
    let place = existing(data);
    let trial = match Trial::new(place) {
        Ok(trial) => trial,
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::ReadOnlyFilesystem => {
                    "mount it writable or choose another --data-dir"
                }
                io::ErrorKind::StorageFull => "make room or choose another --data-dir",
                _ => "choose another --data-dir",
            };
            let found = format!("cannot write to {}: {error}", place.display());
            return Some(Finding::missing("data directory", found, advice));
        }
    };
    let fstype = fstype(place);
    Some(match trial.run() {
        Ok(()) => Finding::ok("overlayfs", format!("works on {} ({fstype})", place.display())),
        Err(Refused::Kernel(error)) if error.raw_os_error() == Some(libc::ENODEV) => {
            Finding::missing(
                "overlayfs",
                "the kernel does not have it",
                "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS",
            )
        }
        Err(Refused::Kernel(error)) => Finding::missing(
            "overlayfs",
            format!("cannot be used: {error}"),
            "in a container, give it CAP_SYS_ADMIN and no filter of system calls (privileged)",
        ),
        Err(Refused::Upper(error)) => Finding::missing(
            "overlayfs",
            format!("does not work on {} ({fstype}): {error}", place.display()),
            "put the data directory on ext4, xfs (with ftype=1), btrfs or f2fs",
        ),
    })
}

fn fstype(place: &Path) -> String {
    let mounts = procfs::mounts().unwrap_or_default();
    let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    procfs::mount_of(&mounts, &place).map_or("unknown", |mount| mount.fstype.as_str()).to_owned()
}

/// Why a trial failed.
enum Refused {
    /// There is no overlayfs for this process.
    Kernel(io::Error),
    /// It cannot write to this filesystem.
    Upper(io::Error),
}

/// A folder for an attempt; gone when dropped.
struct Trial(PathBuf);

impl Trial {
    fn new(place: &Path) -> io::Result<Self> {
        let trial = Self(place.join(format!(".knarr-check-{}", std::process::id())));
        for folder in ["lower", "upper", "work"] {
            std::fs::create_dir_all(trial.0.join(folder))?;
        }
        std::fs::write(trial.0.join("lower/file"), "x")?;
        Ok(trial)
    }

    /// Mounts an overlay, nowhere, and removes a file of the lower layer through it, which takes
    /// attributes, whiteouts and file types of the filesystem.
    fn run(&self) -> Result<(), Refused> {
        let context = mount::FsContext::open("overlay").map_err(Refused::Kernel)?;
        let mounted = || -> io::Result<()> {
            context.set("lowerdir", self.0.join("lower"))?;
            context.set("upperdir", self.0.join("upper"))?;
            context.set("workdir", self.0.join("work"))?;
            let root = context.mount(0)?;
            let path = PathBuf::from(mount::path_of(root.as_fd()));
            std::fs::write(path.join("new"), "x")?;
            std::fs::remove_file(path.join("file"))
        };
        mounted().map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Refused::Kernel(error),
            _ => Refused::Upper(error),
        })?;
        let upper = std::fs::File::open(&self.0).map_err(Refused::Upper)?;
        let set = |name: &str| fs::set_xattr(upper.as_fd(), "upper".as_ref(), name.as_ref(), b"y");
        set("trusted.overlay.opaque").map_err(Refused::Upper)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let findings = directory(&folder.path().join("not/there/yet"));
        assert_eq!(findings.last().unwrap().item, "overlayfs");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_is_worse_than_a_small_one() {
        let level = |available, free| room(Path::new("/"), available, 1000, free).level;
        assert_eq!(level(1 << 20, 900), Level::Missing);
        assert_eq!(level(1 << 30, 900), Level::Warning);
        assert_eq!(level(1 << 40, 900), Level::Ok);
        assert_eq!(level(1 << 40, 9), Level::Warning);
    }
}
