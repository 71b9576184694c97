//! Namespaces: making, pinning and entering them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use crate::mount;
use crate::sys::cvt;

/// Network.
pub const NET: i32 = libc::CLONE_NEWNET;
/// System V IPC and POSIX message queues.
pub const IPC: i32 = libc::CLONE_NEWIPC;
/// Host name.
pub const UTS: i32 = libc::CLONE_NEWUTS;
/// Mounts.
pub const MOUNT: i32 = libc::CLONE_NEWNS;
/// Process ids.
pub const PID: i32 = libc::CLONE_NEWPID;
/// Control groups.
pub const CGROUP: i32 = libc::CLONE_NEWCGROUP;
/// User and group ids.
pub const USER: i32 = libc::CLONE_NEWUSER;

/// The file below `/proc/<pid>/ns` of one namespace.
fn file_name(namespace: i32) -> &'static str {
    match namespace {
        NET => "net",
        IPC => "ipc",
        UTS => "uts",
        MOUNT => "mnt",
        PID => "pid",
        CGROUP => "cgroup",
        _ => "user",
    }
}

/// Leaves the present namespaces of these kinds for new ones.
pub fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::unshare(namespaces) }).map(drop)
}

/// Enters the namespace of an open `/proc/<pid>/ns` file, or those of a pidfd's process.
pub fn enter(fd: impl AsFd, namespaces: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::setns(fd.as_fd().as_raw_fd(), namespaces) }).map(drop)
}

/// A descriptor of one of this thread's namespaces.
pub fn own(namespace: i32) -> io::Result<File> {
    File::open(format!("/proc/thread-self/ns/{}", file_name(namespace)))
}

/// Whether a process shares a namespace with this one.
pub fn is_shared(pid: i32, namespace: i32) -> io::Result<bool> {
    let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{}", file_name(namespace)));
    Ok(link(&pid.to_string())? == link("self")?)
}

/// Makes new namespaces, pins each by a bind mount on a file, and runs `inside` within them, to
/// set them up. Happens on a thread of its own, so the caller stays where it is. Not for mount,
/// pid or user namespaces.
pub fn pin(
    pins: &[(i32, PathBuf)],
    inside: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    let all = pins.iter().fold(0, |all, (namespace, _)| all | namespace);
    let work = || {
        unshare(all)?;
        for (namespace, path) in pins {
            File::create(path)?;
            mount::bind(format!("/proc/thread-self/ns/{}", file_name(*namespace)), path)?;
        }
        inside()
    };
    let done = std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("namespaces".into()).spawn_scoped(scope, work);
        thread.and_then(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("thread panicked"))))
    });
    if done.is_err() {
        pins.iter().for_each(|(_, path)| drop(unpin(path)));
    }
    done
}

/// Takes a pin away; the namespace goes with its last process. Idempotent.
pub fn unpin(path: &Path) -> io::Result<()> {
    match mount::unmount(path) {
        // Not a mount, or not there.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {}
        other => other?,
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Brings the loopback interface of the present network namespace up.
pub fn loopback_up() -> io::Result<()> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: ifreq is plain data, the name NUL-terminated; the socket is new and owned here.
    unsafe {
        let socket = cvt(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        cvt(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        cvt(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_namespaces_outlive_their_thread() {
        let dir = std::env::temp_dir().join(format!("knarr-pin-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let pins = [(NET, dir.join("net")), (UTS, dir.join("uts"))];
        pin(&pins, || {
            crate::process::set_hostname("pinned")?;
            loopback_up()
        })
        .unwrap();
        let name = std::thread::scope(|s| {
            s.spawn(|| {
                enter(File::open(dir.join("uts")).unwrap(), UTS).unwrap();
                std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap()
            })
            .join()
            .unwrap()
        });
        assert_eq!(name.trim(), "pinned");
        assert_ne!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim(), "pinned");
        for (_, path) in &pins {
            unpin(path).unwrap();
            unpin(path).unwrap();
        }
        std::fs::remove_dir(&dir).unwrap();
    }
}
