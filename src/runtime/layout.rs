//! Where things are on disk.
//!
//! ```text
//! <run>/program                 the binary that shims run, read-only
//! <run>/root                    an empty folder, the mount point of every root filesystem
//! <run>/pods/<uid>/sandbox.json what the sandbox was made from
//! <run>/pods/<uid>/shim.sock    its shim
//! <run>/pods/<uid>/ns/<kind>    its pinned namespaces
//! <run>/pods/<uid>/shm          its /dev/shm
//! <run>/pods/<uid>/c/<id>/      record and exit status of a container
//! <data>/layers/<n>/fs          a layer
//! <data>/images/<hex>.json      an image
//! <data>/containers/<id>/       writable layer of a container
//! ```

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Longest path of a unix socket.
const MAX_SOCKET_PATH: usize = 107;

/// The folders of a runtime.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) run: PathBuf,
    pub(crate) data: PathBuf,
}

impl Layout {
    pub(crate) fn program(&self) -> PathBuf {
        self.run.join("program")
    }
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.run.join("root")
    }
    pub(crate) fn pods(&self) -> PathBuf {
        self.run.join("pods")
    }
    pub(crate) fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.data.join("images")
    }
    pub(crate) fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }
    /// The writable layer of a container, and its name relative to the layers, as overlay mounts
    /// need it.
    pub(crate) fn container(&self, id: &str) -> (PathBuf, String) {
        (self.containers().join(id), format!("../containers/{id}"))
    }
    pub(crate) fn pod(&self, uid: &str) -> Result<PodLayout> {
        check_name("pod uid", uid)?;
        let dir = self.pods().join(uid);
        let pod = PodLayout { dir };
        if pod.socket().as_os_str().len() > MAX_SOCKET_PATH {
            return Err(Error::Invalid(format!("run_dir {} is too long", self.run.display())));
        }
        Ok(pod)
    }
}

/// The folder of one pod.
#[derive(Clone, Debug)]
pub(crate) struct PodLayout {
    pub(crate) dir: PathBuf,
}

impl PodLayout {
    pub(crate) fn spec(&self) -> PathBuf {
        self.dir.join("sandbox.json")
    }
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("shim.sock")
    }
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.dir.join("shim.log")
    }
    pub(crate) fn namespaces(&self) -> PathBuf {
        self.dir.join("ns")
    }
    pub(crate) fn namespace(&self, kind: &str) -> PathBuf {
        self.namespaces().join(kind)
    }
    pub(crate) fn shm(&self) -> PathBuf {
        self.dir.join("shm")
    }
    pub(crate) fn containers(&self) -> PathBuf {
        self.dir.join("c")
    }
    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }
}

/// The files of a container's folder in the run directory.
pub(crate) fn record_file(dir: &Path) -> PathBuf {
    dir.join("container.json")
}

/// Where the shim writes the exit status.
pub(crate) fn exit_file(dir: &Path) -> PathBuf {
    dir.join("exit")
}

/// Refuses what cannot be the name of a folder, a cgroup and an overlay option at once.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(good) {
        return Err(Error::Invalid(format!("{what} {name:?} is not a valid name")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_are_refused() {
        for bad in ["", ".", "..", ".x", "a/b", "a:b", "a,b", "a b", "ä"] {
            assert!(check_name("id", bad).is_err(), "{bad:?}");
        }
        assert!(check_name("id", "0f1e-2_c.3").is_ok());
    }
}
