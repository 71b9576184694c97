//! Files below a folder that is not trusted: no symbolic link, `..` or absolute path gets out.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::sys::{cstr, cvt, cvt_long, retry};

/// Symbolic links followed before a path counts as a loop, as in the kernel.
const MAX_LINKS: u32 = 40;

/// How often a lookup is tried again that a mount or rename elsewhere disturbed.
const MAX_DISTURBED: u32 = 256;

/// A folder that is treated as the root of every path looked up in it.
#[derive(Debug)]
pub struct Root(OwnedFd);

fn open_at(
    dir: BorrowedFd<'_>,
    path: &OsStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> io::Result<OwnedFd> {
    let path = cstr(if path.is_empty() { OsStr::new(".") } else { path })?;
    // SAFETY: open_how is plain data, the string NUL-terminated; the descriptor is new and owned
    // here alone.
    unsafe {
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = (flags | libc::O_CLOEXEC) as u64;
        how.mode = mode.into();
        how.resolve = resolve;
        let mut disturbed = 0;
        let fd = loop {
            let fd = retry(|| {
                cvt_long(libc::syscall(
                    libc::SYS_openat2,
                    dir.as_raw_fd(),
                    path.as_ptr(),
                    &how,
                    std::mem::size_of::<libc::open_how>(),
                ))
            });
            match fd {
                // With `..` in the path the kernel gives up when anything at all is mounted or
                // renamed meanwhile, on a busy machine all the time.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && disturbed < MAX_DISTURBED => {
                    disturbed += 1;
                }
                other => break other,
            }
        };
        Ok(OwnedFd::from_raw_fd(fd? as i32))
    }
}

impl Root {
    /// Opens a folder as root.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Root> {
        let dir = std::fs::File::open(path)?;
        if !dir.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Root(dir.into()))
    }

    /// Takes an open folder as root.
    pub fn from_fd(fd: OwnedFd) -> Root {
        Root(fd)
    }

    /// Opens a path with `libc::O_*` flags. All of it, links included, is looked up within the
    /// root.
    pub fn open_file(&self, path: impl AsRef<Path>, flags: i32, mode: u32) -> io::Result<OwnedFd> {
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        let mode = if flags & (libc::O_CREAT | libc::O_TMPFILE) != 0 { mode } else { 0 };
        open_at(self.0.as_fd(), path.as_ref().as_os_str(), flags, mode, resolve)
    }

    /// A descriptor for a path that exists.
    pub fn find(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open_file(path, libc::O_PATH, 0)
    }

    /// The whole of a file, up to `limit` bytes; `None` when it does not exist. Anything that is
    /// not a regular file is refused.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Option<Vec<u8>>> {
        use std::io::Read;
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = match self.open_file(path, flags, 0) {
            Ok(fd) => std::fs::File::from(fd),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut content = Vec::new();
        file.take(limit).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// The folder at a path; what is missing of it is made with mode 0755. Calls `made` with each
    /// new folder's path as it really lies below the root.
    pub fn make_folders(
        &self,
        path: impl AsRef<Path>,
        made: &mut dyn FnMut(&Path),
    ) -> io::Result<OwnedFd> {
        let path = path.as_ref();
        match self.open_file(path, libc::O_PATH | libc::O_DIRECTORY, 0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut walk = Walk { root: self, dirs: Vec::new(), names: PathBuf::new(), links: 0 };
        walk.go(path, made)?;
        walk.here().try_clone_to_owned()
    }

    /// A descriptor for a mount point at a path: an existing file or folder, or a new one of the
    /// kind that `folder` says, with the folders above it.
    pub fn make_mount_point(&self, path: impl AsRef<Path>, folder: bool) -> io::Result<OwnedFd> {
        let path = path.as_ref();
        match self.find(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        if folder {
            return self.make_folders(path, &mut |_| {});
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = self.make_folders(parent, &mut |_| {})?;
        let flags = libc::O_CREAT | libc::O_WRONLY;
        match open_at(parent.as_fd(), name, flags | libc::O_NOFOLLOW, 0o644, 0) {
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {
                // A dangling link: its target is made, looked up within the root.
                let target = read_link_at(parent.as_fd(), name)?;
                let target = if target.has_root() {
                    target
                } else {
                    path.parent().unwrap_or(Path::new("/")).join(target)
                };
                self.open_file(&target, flags, 0o644)
            }
            other => other,
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A walk down from a root that makes missing folders and follows links, holding every folder on
/// the way so that `..` never leaves.
struct Walk<'a> {
    root: &'a Root,
    dirs: Vec<OwnedFd>,
    names: PathBuf,
    links: u32,
}

impl Walk<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.dirs.last().map_or(self.root.0.as_fd(), |fd| fd.as_fd())
    }

    fn go(&mut self, path: &Path, made: &mut dyn FnMut(&Path)) -> io::Result<()> {
        for component in path.components() {
            match component {
                Component::RootDir | Component::Prefix(_) => {
                    self.dirs.clear();
                    self.names.clear();
                }
                Component::CurDir => {}
                Component::ParentDir => {
                    self.dirs.pop();
                    self.names.pop();
                }
                Component::Normal(name) => self.step(name, made)?,
            }
        }
        Ok(())
    }

    fn step(&mut self, name: &OsStr, made: &mut dyn FnMut(&Path)) -> io::Result<()> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let next = match open_at(self.here(), name, flags, 0, 0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make_folder(self.here(), name, 0o755)?;
                made(&self.names.join(name));
                open_at(self.here(), name, flags | libc::O_DIRECTORY, 0, 0)?
            }
            other => other?,
        };
        match file_type(&next)? {
            libc::S_IFDIR => {
                self.dirs.push(next);
                self.names.push(name);
                Ok(())
            }
            libc::S_IFLNK => {
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let target = read_link_at(self.here(), name)?;
                self.go(&target, made)
            }
            _ => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        }
    }
}

fn stat_of(fd: BorrowedFd<'_>) -> io::Result<libc::stat> {
    // SAFETY: stat is plain data, written by the kernel.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        cvt(libc::fstat(fd.as_raw_fd(), &mut stat))?;
        Ok(stat)
    }
}

/// The type bits (`libc::S_IF*`) of an open file.
pub fn file_type(fd: impl AsFd) -> io::Result<u32> {
    Ok(stat_of(fd.as_fd())?.st_mode & libc::S_IFMT)
}

/// Whether an open file is a folder.
pub fn is_folder(fd: impl AsFd) -> io::Result<bool> {
    Ok(file_type(fd)? == libc::S_IFDIR)
}

/// Major and minor number of a device id.
pub fn device_numbers(device: u64) -> (u32, u32) {
    (libc::major(device), libc::minor(device))
}

/// Device and inode of an open file, which identify it.
pub fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = stat_of(fd.as_fd())?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The target of a symbolic link.
pub fn read_link_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
    let name = cstr(name)?;
    let mut buf = vec![0; libc::PATH_MAX as usize];
    // SAFETY: the buffer is valid for its length.
    let n = unsafe {
        libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len())
    };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    buf.truncate(n as usize);
    Ok(PathBuf::from(OsString::from_vec(buf)))
}

/// Makes a folder.
pub fn make_folder(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    let name = cstr(name)?;
    // SAFETY: the string is NUL-terminated.
    cvt(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Makes a new regular file and opens it for writing. Never follows a link.
pub fn make_file(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<std::fs::File> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
    open_at(dir, name, flags, mode, 0).map(Into::into)
}

/// Makes a symbolic link.
pub fn make_link(dir: BorrowedFd<'_>, name: &OsStr, target: &OsStr) -> io::Result<()> {
    let (name, target) = (cstr(name)?, cstr(target)?);
    // SAFETY: the strings are NUL-terminated.
    cvt(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Makes a hard link to a file that is not itself followed.
pub fn make_hard_link(
    from: (BorrowedFd<'_>, &OsStr),
    to: (BorrowedFd<'_>, &OsStr),
) -> io::Result<()> {
    let (old, new) = (cstr(from.1)?, cstr(to.1)?);
    // SAFETY: the strings are NUL-terminated.
    cvt(unsafe {
        libc::linkat(from.0.as_raw_fd(), old.as_ptr(), to.0.as_raw_fd(), new.as_ptr(), 0)
    })
    .map(drop)
}

/// Makes a device node, fifo or socket: `mode` has the type bits.
pub fn make_node(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    mode: u32,
    major: u32,
    minor: u32,
) -> io::Result<()> {
    let name = cstr(name)?;
    let device = libc::makedev(major, minor);
    // SAFETY: the string is NUL-terminated.
    cvt(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device) }).map(drop)
}

/// Removes a file, or an empty folder with `folder`.
pub fn remove(dir: BorrowedFd<'_>, name: &OsStr, folder: bool) -> io::Result<()> {
    let name = cstr(name)?;
    let flags = if folder { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: the string is NUL-terminated.
    cvt(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

/// The mode with its type bits of a name that is not followed; `None` when it does not exist.
pub fn mode_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<u32>> {
    let name = cstr(name)?;
    // SAFETY: stat is plain data, written by the kernel.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        match cvt(libc::fstatat(dir.as_raw_fd(), name.as_ptr(), &mut stat, flags)) {
            Ok(_) => Ok(Some(stat.st_mode)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Sets the owner of a name that is not followed.
pub fn set_owner(dir: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let name = cstr(name)?;
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the string is NUL-terminated.
    cvt(unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// Sets the owner of an open file.
pub fn set_owner_of(fd: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::fchown(fd.as_fd().as_raw_fd(), uid, gid) }).map(drop)
}

/// Sets the mode of a name, which must not be a symbolic link.
pub fn set_mode(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    let name = cstr(name)?;
    // SAFETY: the string is NUL-terminated.
    cvt(unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode, 0) }).map(drop)
}

/// Sets access and modification time (seconds since 1970) of a name that is not followed.
pub fn set_times(dir: BorrowedFd<'_>, name: &OsStr, seconds: i64) -> io::Result<()> {
    let name = cstr(name)?;
    let time = libc::timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = [time, time];
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the string is NUL-terminated, the times outlive the call.
    cvt(unsafe { libc::utimensat(dir.as_raw_fd(), name.as_ptr(), times.as_ptr(), flags) }).map(drop)
}

/// Sets an extended attribute of a name that is not followed. Needs `/proc`.
pub fn set_xattr(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    attribute: &OsStr,
    value: &[u8],
) -> io::Result<()> {
    let mut path = OsString::from(crate::mount::path_of(dir));
    path.push("/");
    path.push(name);
    let (path, attribute) = (cstr(path)?, cstr(attribute)?);
    // SAFETY: the strings are NUL-terminated, the value is valid for its length.
    cvt(unsafe {
        libc::lsetxattr(path.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
    .map(drop)
}

/// The value of an extended attribute of a path that is not followed, if it has it.
pub fn get_xattr(path: &Path, attribute: &str) -> io::Result<Option<Vec<u8>>> {
    let (path, attribute) = (cstr(path)?, cstr(attribute)?);
    let mut value = vec![0; 4096];
    // SAFETY: the buffer is valid for its length.
    let n = unsafe {
        libc::lgetxattr(path.as_ptr(), attribute.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    if n < 0 {
        let error = io::Error::last_os_error();
        let none = matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP));
        return if none { Ok(None) } else { Err(error) };
    }
    value.truncate(n as usize);
    Ok(Some(value))
}

/// Writes everything that is dirty in the filesystem of an open file to its disk.
pub fn sync_filesystem(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::syncfs(fd.as_fd().as_raw_fd()) }).map(drop)
}

/// Whether somebody has a file open for writing. The kernel grants a read lease on a file that nobody
/// writes to alone; where it grants none for another reason, the answer is no.
pub fn is_being_written(file: &std::fs::File) -> bool {
    const F_SETSIG: libc::c_int = 10;
    let fd = file.as_raw_fd();
    // SAFETY: no memory is involved, and the descriptor is open. Whoever opens the file for writing
    // just now has a signal sent to this process: one that does nothing unless it is handled.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG);
        if libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0 {
            libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
            return false;
        }
    }
    io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

/// Size and fill of a filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsUsage {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that anyone may still use.
    pub available: u64,
    /// Bytes used.
    pub used: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// Size and fill of the filesystem that a path lies on.
pub fn usage(path: impl AsRef<Path>) -> io::Result<FsUsage> {
    let path = cstr(path.as_ref())?;
    // SAFETY: statvfs is plain data, written by the kernel.
    let s = unsafe {
        let mut s: libc::statvfs = std::mem::zeroed();
        cvt(libc::statvfs(path.as_ptr(), &mut s))?;
        s
    };
    Ok(FsUsage {
        capacity: s.f_blocks * s.f_frsize,
        available: s.f_bavail * s.f_frsize,
        used: (s.f_blocks - s.f_bfree) * s.f_frsize,
        inodes: s.f_files,
        inodes_free: s.f_ffree,
    })
}

/// Whether a path lies on a cgroup v2 filesystem.
pub(crate) fn is_cgroup2(path: &Path) -> bool {
    let Ok(path) = cstr(path) else { return false };
    // SAFETY: statfs is plain data, written by the kernel.
    unsafe {
        let mut s: libc::statfs = std::mem::zeroed();
        libc::statfs(path.as_ptr(), &mut s) == 0 && s.f_type == libc::CGROUP2_SUPER_MAGIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Dir(PathBuf);
    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("knarr-fs-{name}-{}", std::process::id()));
            std::fs::create_dir_all(dir.join("root")).unwrap();
            Dir(dir)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn nothing_gets_out_of_a_root() {
        let dir = Dir::new("out");
        let inside = dir.0.join("root");
        std::fs::write(dir.0.join("secret"), "s").unwrap();
        symlink("../../secret", inside.join("up")).unwrap();
        symlink("/secret", inside.join("abs")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        let root = Root::open(&inside).unwrap();
        for path in ["up", "abs", "../secret", "/../secret", "a/../../secret"] {
            assert!(root.read(path, 10).unwrap().is_none(), "{path}");
        }
        assert!(root.read("loop", 10).is_err());
        // Folders through links that point out are made inside.
        symlink("/../../elsewhere", inside.join("dangling")).unwrap();
        let mut made = Vec::new();
        root.make_folders("dangling/x/../y", &mut |p| made.push(p.to_owned())).unwrap();
        assert!(inside.join("elsewhere/y").is_dir());
        assert!(!dir.0.join("elsewhere").exists());
        assert_eq!(made, ["elsewhere", "elsewhere/x", "elsewhere/y"].map(PathBuf::from));
        assert!(root.make_folders("loop/x", &mut |_| {}).is_err());
    }

    #[test]
    fn writers_are_noticed() {
        let dir = Dir::new("writers");
        let path = dir.0.join("file");
        let writer = std::fs::File::create(&path).unwrap();
        let reader = std::fs::File::open(&path).unwrap();
        assert!(is_being_written(&reader));
        drop(writer);
        assert!(!is_being_written(&reader));
        drop(std::fs::OpenOptions::new().append(true).open(&path).unwrap());
    }

    #[test]
    fn mount_points_of_both_kinds() {
        let dir = Dir::new("points");
        let inside = dir.0.join("root");
        std::fs::create_dir(inside.join("run")).unwrap();
        std::fs::create_dir(inside.join("var")).unwrap();
        symlink("/run", inside.join("var/run")).unwrap();
        symlink("nowhere", inside.join("link")).unwrap();
        let root = Root::open(&inside).unwrap();
        root.make_mount_point("/var/run/secrets/token", false).unwrap();
        assert!(inside.join("run/secrets/token").is_file());
        root.make_mount_point("/var/run/data", true).unwrap();
        assert!(inside.join("run/data").is_dir());
        root.make_mount_point("link", false).unwrap();
        assert!(inside.join("nowhere").is_file());
        assert!(root.make_mount_point("/run/secrets/token/x", false).is_err());
    }
}
