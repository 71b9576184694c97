//! What a container says about its end: a file that it may write, or the end of its log.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use crate::api::logs::tail;

/// Longest message from the file.
const MAX_FILE: u64 = 4096;
/// Longest message from the log.
const MAX_LOG: usize = 2048;
/// Most lines from the log.
const MAX_LINES: usize = 80;

/// Makes the file that a container is given.
pub(super) fn make(pod_dir: &Path, container: &str) -> io::Result<PathBuf> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let folder = pod_dir.join("containers").join(container);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{:08x}", rand::random::<u32>()));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path)?;
    // Any user in the container may write it, whatever the umask of this process is.
    file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
    Ok(path)
}

/// Reads the message of a container that ended with `code`.
pub(super) fn read(
    file: Option<&Path>,
    log: Option<&Path>,
    fall_back_to_log: bool,
    code: i32,
) -> String {
    let from_file = match file.map(read_end) {
        Some(Ok(text)) => text,
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
            return format!("Error on reading termination log: {error}");
        }
        _ => String::new(),
    };
    if !from_file.is_empty() || !fall_back_to_log || code == 0 {
        return from_file;
    }
    let Some(log) = log else { return from_file };
    match tail(log, MAX_LINES) {
        Ok(text) => {
            let cut = text.len().saturating_sub(MAX_LOG);
            String::from_utf8_lossy(&text[cut..]).into_owned()
        }
        Err(error) => format!("Error on reading termination message from logs: {error}"),
    }
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_FILE)))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_before_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let file = make(folder.path(), "c").unwrap();
        let log = folder.path().join("0.log");
        std::fs::write(&log, "2026-01-02T03:04:05.000000001Z stdout F last words\n").unwrap();
        let message = |fall_back, code| read(Some(&file), Some(&log), fall_back, code);
        assert_eq!(message(false, 1), "");
        assert_eq!(message(true, 0), "");
        assert_eq!(message(true, 1), "last words\n");
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        assert_eq!(message(true, 1).len(), 4096);
    }
}
