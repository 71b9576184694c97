//! Notices that something in a folder has changed, without looking.
//!
//! Says only *that* something changed: whoever asks looks at the folder anyway, since events can be
//! lost (the queue overflows) and say nothing of what was there before.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use crate::sys::{cstr, cvt};

/// A file was written and closed, came, went, or was touched; or so did the folder itself.
const EVENTS: u32 = libc::IN_CLOSE_WRITE
    | libc::IN_CREATE
    | libc::IN_ATTRIB
    | libc::IN_MOVED_TO
    | libc::IN_MOVED_FROM
    | libc::IN_DELETE
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;

/// Size of `struct inotify_event` before the name.
const HEADER: usize = std::mem::size_of::<libc::inotify_event>();

/// A watched folder. The descriptor becomes readable when something in it has changed.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    folder: PathBuf,
}

/// What has happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that counts.
    Nothing,
    /// Something in the folder is not as before.
    Inside,
    /// The folder is gone or lies elsewhere: this watch says nothing more.
    Gone,
}

impl Watch {
    /// Watches a folder, not those in it. Non-blocking and close-on-exec. Fails with `EMFILE` when
    /// the user has all the instances that `fs.inotify.max_user_instances` allows.
    pub fn new(folder: &Path) -> io::Result<Watch> {
        let path = cstr(folder)?;
        // SAFETY: the new descriptor is owned here alone; the string is NUL-terminated.
        let inotify = unsafe {
            let flags = libc::IN_NONBLOCK | libc::IN_CLOEXEC;
            let inotify = OwnedFd::from_raw_fd(cvt(libc::inotify_init1(flags))?);
            cvt(libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), EVENTS))?;
            inotify
        };
        Ok(Watch { inotify, folder: folder.to_owned() })
    }

    /// Takes all that has happened. A file that is made counts when its writer closes it, a link, a
    /// socket or a folder at once: nobody writes to it.
    pub fn take(&self) -> io::Result<Change> {
        let mut buffer = [0u8; 4096];
        let mut change = Change::Nothing;
        loop {
            let read = crate::fd::read(&self.inotify, &mut buffer);
            let length = match read {
                Ok(0) => return Ok(change),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(change),
                Err(error) => return Err(error),
            };
            for (mask, name) in events(&buffer[..length]) {
                const SELF: u32 = libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_IGNORED;
                if mask & SELF != 0 {
                    change = Change::Gone;
                } else if change == Change::Nothing
                    && (mask & libc::IN_CREATE == 0 || self.is_whole(name))
                {
                    change = Change::Inside;
                }
            }
        }
    }

    /// Whether a name that has come is no new file.
    fn is_whole(&self, name: &OsStr) -> bool {
        let metadata = std::fs::symlink_metadata(self.folder.join(name));
        metadata.is_ok_and(|file| !file.is_file() || file.nlink() > 1)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}

/// A folder that is waited on, come what may: one that is not there yet, or that cannot be watched,
/// is looked at now and then.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    watch: Option<AsyncFd<Watch>>,
}

impl Folder {
    /// How often a folder is to be looked at that cannot be watched.
    const UNWATCHED: Duration = Duration::from_secs(10);

    /// Watches a folder from now on. Must be called within a tokio runtime.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        let path = path.into();
        let watch = watch(&path).ok();
        Folder { path, watch }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until something in the folder may have changed since the last call (or since the
    /// folder was first watched), but no longer than `limit`. Then it is time to look at it.
    pub async fn changed(&mut self, limit: Duration) {
        let Some(watched) = &self.watch else {
            self.watch = watch(&self.path).ok();
            // What came before the watch was made is seen by nobody else.
            let wait = if self.watch.is_some() { Duration::ZERO } else { Self::UNWATCHED };
            return tokio::time::sleep(wait.min(limit)).await;
        };
        let gone = async {
            loop {
                let Ok(mut ready) = watched.readable().await else { return true };
                let change = watched.get_ref().take();
                ready.clear_ready();
                match change {
                    Ok(Change::Nothing) => {}
                    Ok(Change::Inside) => return false,
                    Ok(Change::Gone) | Err(_) => return true,
                }
            }
        };
        if tokio::time::timeout(limit, gone).await == Ok(true) {
            self.watch = None;
        }
    }
}

fn watch(path: &Path) -> io::Result<AsyncFd<Watch>> {
    let watch = Watch::new(path)?;
    // SAFETY: the watch keeps its one descriptor open until it is dropped with the AsyncFd.
    Ok(unsafe { AsyncFd::register(watch)? })
}

/// Mask and name of each event.
fn events(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &OsStr)> {
    std::iter::from_fn(move || {
        let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        // struct inotify_event: wd, mask, cookie, len, name filled with zeros to len.
        let (mask, length) = (number(4)?, number(12)? as usize);
        let name = bytes.get(HEADER..HEADER + length)?;
        bytes = &bytes[HEADER + length..];
        let name = CStr::from_bytes_until_nul(name).map_or(&[][..], CStr::to_bytes);
        Some((mask, OsStr::from_bytes(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn files_count_when_they_are_whole() {
        let dir = std::env::temp_dir().join(format!("knarr-inotify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let watch = Watch::new(&dir).unwrap();
        assert_eq!(watch.take().unwrap(), Change::Nothing);
        let mut file = File::create(dir.join("a")).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(watch.take().unwrap(), Change::Nothing);
        drop(file);
        assert_eq!(watch.take().unwrap(), Change::Inside);
        assert_eq!(watch.take().unwrap(), Change::Nothing);
        std::os::unix::fs::symlink("a", dir.join("link")).unwrap();
        assert_eq!(watch.take().unwrap(), Change::Inside);
        std::fs::rename(dir.join("a"), dir.join("b")).unwrap();
        assert_eq!(watch.take().unwrap(), Change::Inside);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(watch.take().unwrap(), Change::Gone);
        assert!(Watch::new(&dir).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_is_waited_on_before_and_after_it_is_there() {
        const LONG: Duration = Duration::from_secs(3600);
        let dir = std::env::temp_dir().join(format!("knarr-folder-{}", std::process::id()));
        let mut folder = Folder::new(&dir);
        let started = tokio::time::Instant::now();
        folder.changed(LONG).await;
        assert_eq!(started.elapsed(), Folder::UNWATCHED);
        std::fs::create_dir_all(&dir).unwrap();
        folder.changed(LONG).await;
        std::fs::write(dir.join("a"), "x").unwrap();
        folder.changed(LONG).await;
        std::fs::remove_dir_all(&dir).unwrap();
        folder.changed(LONG).await;
        assert!(started.elapsed() < LONG);
        folder.changed(Duration::from_secs(1)).await;
        assert!(folder.watch.is_none());
    }
}
