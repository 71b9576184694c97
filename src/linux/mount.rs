//! Mounts: the new mount API (Linux 5.12) and what is still simpler with the old calls.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::null;

use crate::sys::{cstr, cvt, cvt_long};

/// Read-only.
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// No set-uid programs.
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// No device nodes.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// No programs.
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// How mounts made later pass between copies of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They do not.
    Private,
    /// Those made at the origin appear here.
    Slave,
    /// Both ways.
    Shared,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
        }
    }
}

fn raw_mount(
    source: Option<&OsStr>,
    target: &Path,
    fstype: Option<&str>,
    flags: u64,
    data: Option<&str>,
) -> io::Result<()> {
    let source = source.map(cstr).transpose()?;
    let target = cstr(target)?;
    let fstype = fstype.map(cstr).transpose()?;
    let data = data.map(cstr).transpose()?;
    // SAFETY: all strings are NUL-terminated and outlive the call.
    cvt(unsafe {
        libc::mount(
            source.as_ref().map_or(null(), |s| s.as_ptr()),
            target.as_ptr(),
            fstype.as_ref().map_or(null(), |s| s.as_ptr()),
            flags,
            data.as_ref().map_or(null(), |s| s.as_ptr().cast()),
        )
    })
    .map(drop)
}

/// Mounts a filesystem with `mount(2)`: `flags` are `libc::MS_*`.
pub fn mount(
    fstype: &str,
    source: &str,
    target: impl AsRef<Path>,
    flags: u64,
    data: Option<&str>,
) -> io::Result<()> {
    raw_mount(Some(OsStr::new(source)), target.as_ref(), Some(fstype), flags, data)
}

/// Shows a file or folder, without the mounts below it, at a second place.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> io::Result<()> {
    raw_mount(Some(source.as_ref().as_os_str()), target.as_ref(), None, libc::MS_BIND, None)
}

/// Sets the propagation of a mount, with all below it if `recursive`.
pub fn set_propagation(
    target: impl AsRef<Path>,
    propagation: Propagation,
    recursive: bool,
) -> io::Result<()> {
    let deep = if recursive { libc::MS_REC } else { 0 };
    raw_mount(None, target.as_ref(), None, propagation.flag() | deep, None)
}

fn unmount_flags(target: &Path, flags: i32) -> io::Result<()> {
    let target = cstr(target)?;
    // SAFETY: the string is NUL-terminated and outlives the call.
    cvt(unsafe { libc::umount2(target.as_ptr(), flags | libc::UMOUNT_NOFOLLOW) }).map(drop)
}

/// Detaches a mount; it goes away when nobody uses it any more.
pub fn unmount(target: impl AsRef<Path>) -> io::Result<()> {
    unmount_flags(target.as_ref(), libc::MNT_DETACH)
}

/// Makes the folder the root of the mount namespace and lets go of the old root. The folder must
/// be a mount of its own, and the old root must not be shared.
pub fn pivot_root(new_root: impl AsFd) -> io::Result<()> {
    let dot = c".".as_ptr();
    // SAFETY: constant strings. With both arguments the same folder the old root ends up stacked
    // on the new one, where it is the current folder and can be detached.
    unsafe {
        cvt(libc::fchdir(new_root.as_fd().as_raw_fd()))?;
        cvt_long(libc::syscall(libc::SYS_pivot_root, dot, dot))?;
    }
    unmount_flags(Path::new("."), libc::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

/// A detached copy of the mount tree at a path (`recursive`: with the mounts below it). It keeps
/// the propagation of the original; see [`Attributes`].
pub fn clone_tree(path: impl AsRef<Path>, recursive: bool) -> io::Result<OwnedFd> {
    let path = cstr(path.as_ref())?;
    let deep = if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | deep;
    // SAFETY: the string is NUL-terminated; the descriptor is new and owned here alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags);
        Ok(OwnedFd::from_raw_fd(cvt_long(fd)? as i32))
    }
}

/// The same for a file or folder that is open.
pub fn clone_tree_of(fd: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let deep = if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | deep | libc::AT_EMPTY_PATH as u32;
    // SAFETY: as above.
    unsafe {
        let fd = fd.as_fd().as_raw_fd();
        let new = libc::syscall(libc::SYS_open_tree, fd, c"".as_ptr(), flags);
        Ok(OwnedFd::from_raw_fd(cvt_long(new)? as i32))
    }
}

/// Puts a detached mount on an open file or folder.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    // SAFETY: constant strings; both descriptors are open.
    cvt_long(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Attributes to set on and clear from a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// New propagation.
    pub propagation: Option<Propagation>,
    /// Also of all mounts below.
    pub recursive: bool,
}

impl Attributes {
    /// Applies the attributes to the mount (attached or not) that a descriptor stands for.
    pub fn apply(&self, mount: impl AsFd) -> io::Result<()> {
        let attr = libc::mount_attr {
            attr_set: self.set,
            attr_clr: self.clear,
            propagation: self.propagation.map_or(0, Propagation::flag),
            userns_fd: 0,
        };
        let deep = if self.recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: the attributes outlive the call and their size is passed.
        cvt_long(unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_fd().as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH | deep,
                &attr,
                std::mem::size_of::<libc::mount_attr>(),
            )
        })
        .map(drop)
    }
}

const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// A filesystem being configured, for a mount that is first made and then attached.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Begins a mount of a filesystem type.
    pub fn open(fstype: &str) -> io::Result<FsContext> {
        let fstype = cstr(fstype)?;
        // SAFETY: the string is NUL-terminated; the descriptor is new and owned here alone.
        unsafe {
            let fd = libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC);
            Ok(FsContext(OwnedFd::from_raw_fd(cvt_long(fd)? as i32)))
        }
    }

    fn config(&self, command: u32, key: Option<&str>, value: Option<&OsStr>) -> io::Result<()> {
        let key = key.map(cstr).transpose()?;
        let value = value.map(cstr).transpose()?;
        // SAFETY: the strings are NUL-terminated and outlive the call.
        cvt_long(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key.as_ref().map_or(null(), |s| s.as_ptr()),
                value.as_ref().map_or(null(), |s| s.as_ptr()),
                0,
            )
        })
        .map(drop)
        .map_err(|e| self.explain(e))
    }

    /// The kernel's own words, where it left some in the context's log.
    fn explain(&self, error: io::Error) -> io::Error {
        let mut buf = [0; 512];
        match crate::fd::read(&self.0, &mut buf) {
            Ok(n) if n > 2 => {
                let text = String::from_utf8_lossy(&buf[2..n]).trim().to_owned();
                io::Error::new(error.kind(), format!("{error} ({text})"))
            }
            _ => error,
        }
    }

    /// Sets an option with a value.
    pub fn set(&self, key: &str, value: impl AsRef<OsStr>) -> io::Result<()> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value.as_ref()))
    }

    /// Sets an option without a value.
    pub fn flag(&self, key: &str) -> io::Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Makes the filesystem and a detached mount of it.
    pub fn mount(self, attributes: u64) -> io::Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: the descriptor is new and owned here alone.
        unsafe {
            let fd = libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes as u32,
            );
            Ok(OwnedFd::from_raw_fd(cvt_long(fd)? as i32))
        }
    }
}

/// The path by which a call that wants paths reaches an open file. Needs `/proc`.
pub fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
