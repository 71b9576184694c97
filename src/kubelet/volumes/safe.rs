//! Paths below a volume that a container controls: they are resolved by the kernel so that no
//! symbolic link can lead out of the volume, whatever the container does meanwhile.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, mkdirat},
};

/// Larger files are not read.
const MAX_FILE: u64 = 1 << 20;

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn root(path: &Path) -> io::Result<OwnedFd> {
    let file = nix::fcntl::open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    Ok(file)
}

/// Whether `path` is relative and goes nowhere up.
pub(crate) fn is_local(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Opens what is at `path` below `folder`, as a handle only.
pub(crate) fn open_below(folder: &Path, path: &Path) -> io::Result<OwnedFd> {
    let root = root(folder)?;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(openat2(root.as_fd(), path, how(OFlag::O_PATH))?)
}

/// Reads a regular file below `folder`.
pub(crate) fn read_below(folder: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let root = root(folder)?;
    let file = File::from(openat2(root.as_fd(), path, how(OFlag::O_RDONLY | OFlag::O_NONBLOCK))?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes the folders of `path` below `folder` that are missing, with exactly `mode`.
pub(crate) fn make_below(folder: &Path, path: &Path, mode: u32) -> io::Result<()> {
    let root = root(folder)?;
    let mut done = PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let parent = if done.as_os_str().is_empty() { Path::new(".") } else { &done };
        let parent = openat2(root.as_fd(), parent, how(OFlag::O_PATH | OFlag::O_DIRECTORY))?;
        match mkdirat(parent.as_fd(), name, Mode::from_bits_truncate(mode)) {
            Ok(()) => {
                // The umask has taken its part of the mode.
                let made =
                    openat2(parent.as_fd(), name, how(OFlag::O_RDONLY | OFlag::O_DIRECTORY))?;
                nix::sys::stat::fchmod(made.as_fd(), Mode::from_bits_truncate(mode))?;
            }
            Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        done.push(name);
    }
    Ok(())
}

/// The path under which this process reaches an open handle, for calls that take paths.
pub(crate) fn handle_path(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_cannot_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        std::fs::create_dir(volume.join("real")).unwrap();
        std::fs::write(volume.join("real/file"), "f").unwrap();
        symlink("real", volume.join("link")).unwrap();
        symlink("../secret", volume.join("up")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        assert_eq!(read_below(&volume, Path::new("link/file")).unwrap(), b"f");
        for path in ["up", "absolute/passwd", "../secret"] {
            assert!(read_below(&volume, Path::new(path)).is_err(), "{path}");
            assert!(open_below(&volume, Path::new(path)).is_err(), "{path}");
        }
        assert!(make_below(&volume, Path::new("absolute/x"), 0o755).is_err());
        make_below(&volume, Path::new("link/a/b"), 0o777).unwrap();
        let mode = std::fs::metadata(volume.join("real/a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o777);
    }
}
