//! Network namespaces: a handle on one, and work done inside it.
//!
//! A thread that has left its namespace is of no use to anyone else, so the work is done on a
//! short-lived thread of its own and never on a caller's (least of all a runtime worker's).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

/// An open network namespace. It lives at least as long as this handle.
#[derive(Debug)]
pub struct Netns(OwnedFd);

impl Netns {
    /// Opens a namespace by path: a pin (bind mount) or `/proc/<pid>/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(File::open(path)?.into()))
    }

    /// The calling thread's namespace.
    pub fn current() -> io::Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// A new namespace, with nothing in it but a loopback that is down. It is not pinned: it
    /// goes away with the last handle, socket, process or mount that holds it.
    pub fn create() -> io::Result<Self> {
        on_thread(|| {
            // SAFETY: takes no pointers. It changes only this thread, which ends here.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Self::current()
        })?
    }

    /// Runs `work` inside the namespace, on a thread of its own, and waits for it. A panic in
    /// `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_thread(|| {
            // SAFETY: the descriptor is open, as `self` owns it. It changes only this thread,
            // which ends here. The kernel refuses anything that is not a network namespace.
            if unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(work())
        })?
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn inode(ns: &Netns) -> u64 {
        File::from(ns.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().ino()
    }

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let before = inode(&Netns::current().unwrap());
        let ns = Netns::create().expect("namespaces need root");
        let inside = ns.run(|| inode(&Netns::current().unwrap())).unwrap();
        assert_eq!(inside, inode(&ns));
        assert_ne!(inside, before);
        assert_eq!(inode(&Netns::current().unwrap()), before);
    }

    #[test]
    fn what_is_not_a_network_namespace_is_refused() {
        let file = Netns::open("/proc/self/ns/uts").unwrap();
        assert!(file.run(|| ()).is_err());
    }
}
