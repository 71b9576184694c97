//! Images that lie in a folder of the data directory are imported: when the node starts, and then
//! as soon as one is put there.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use linux::inotify::Folder;
use runtime::ImageStore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the folder is looked at anyway: what did not fit on a full disk may do so later.
const INTERVAL: Duration = Duration::from_secs(300);

/// The folder and what was not imported from it.
pub(crate) struct Archives {
    store: ImageStore,
    folder: Folder,
    /// What each archive was like that could not be imported. It is said once.
    refused: BTreeMap<PathBuf, String>,
}

impl Archives {
    /// Watches `folder`, and imports what is there. Must be called within a tokio runtime.
    pub(crate) async fn import(store: ImageStore, folder: PathBuf) -> Self {
        let mut archives = Self { store, folder: Folder::new(folder), refused: BTreeMap::new() };
        archives.pass().await;
        archives
    }

    /// Imports what is put into the folder, until `stop`.
    pub(crate) async fn follow(mut self, stop: CancellationToken) {
        let follow = async {
            loop {
                self.folder.changed(INTERVAL).await;
                self.pass().await;
            }
        };
        tokio::select! {
            () = follow => {}
            () = stop.cancelled() => {}
        }
    }

    /// Imports every archive that has changed since it was last imported. What cannot be imported
    /// is logged and left out: the other images and the node are better than nothing.
    async fn pass(&mut self) {
        let archives = archives(self.folder.path());
        self.refused.retain(|archive, _| archives.contains(archive));
        for archive in archives {
            let Ok(file) = File::open(&archive) else { continue };
            // It is looked at again when its writer closes it.
            if linux::fs::is_being_written(&file) {
                continue;
            }
            let Ok(metadata) = file.metadata() else { continue };
            drop(file);
            let stamp = stamp_of(&archive);
            let now = fingerprint(&metadata);
            if std::fs::read_to_string(&stamp).is_ok_and(|before| before == now) {
                continue;
            }
            match self.store.import(&archive).await {
                Ok(names) => {
                    info!(archive = %archive.display(), images = ?names, "imported");
                    self.refused.remove(&archive);
                    if let Err(error) = std::fs::write(&stamp, now) {
                        warn!(%error, stamp = %stamp.display(), "import not noted");
                    }
                }
                Err(error) => {
                    let before = self.refused.insert(archive.clone(), now.clone());
                    if before.is_none_or(|before| before != now) {
                        warn!(archive = %archive.display(), %error, "not imported");
                    }
                }
            }
        }
    }
}

fn archives(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut archives: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end))
        })
        .collect();
    archives.sort();
    archives
}

/// Beside the archive, so that whoever replaces the folder starts anew.
fn stamp_of(archive: &Path) -> PathBuf {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    archive.with_file_name(format!(".{name}.imported"))
}

fn fingerprint(metadata: &Metadata) -> String {
    format!("{} {}.{:09}\n", metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
