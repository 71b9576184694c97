//! Images that lie in a folder of the data directory are imported when the node starts.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use runtime::Runtime;
use tracing::{info, warn};

/// Imports every archive in `folder` that has changed since it was last imported. What cannot be
/// imported is logged and left out: the other images and the node are better than nothing.
pub(crate) async fn import(runtime: &Runtime, folder: &Path) {
    for archive in archives(folder) {
        let Ok(metadata) = std::fs::metadata(&archive) else { continue };
        let stamp = stamp_of(&archive);
        let now = fingerprint(&metadata);
        if std::fs::read_to_string(&stamp).is_ok_and(|before| before == now) {
            continue;
        }
        match runtime.images().import(&archive).await {
            Ok(names) => {
                info!(archive = %archive.display(), images = ?names, "imported");
                if let Err(error) = std::fs::write(&stamp, now) {
                    warn!(%error, stamp = %stamp.display(), "import not noted");
                }
            }
            Err(error) => warn!(archive = %archive.display(), %error, "not imported"),
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
