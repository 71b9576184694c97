//! Paths of the node itself.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// Checks that `path` is what the pod expects, and makes it where the pod asks for that. The errors
/// are worded as upstream's.
pub(super) fn check(path: &str, kind: &str) -> Result<(), String> {
    if path.split('/').any(|part| part == "..") {
        return Err(format!("invalid HostPath `{path}`: must not contain '..'"));
    }
    let path = Path::new(path);
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" => {
            if !exists(path) {
                return fs::create_dir_all(path).map_err(|e| words(path, &e));
            }
            expect(path, "directory", "Directory")
        }
        "Directory" => expect(path, "directory", "Directory"),
        "FileOrCreate" => {
            if !exists(path) {
                let mut options = fs::OpenOptions::new();
                options.write(true).create(true).truncate(false).mode(0o644);
                return options.open(path).map(drop).map_err(|error| words(path, &error));
            }
            expect(path, "file", "File")
        }
        "File" => expect(path, "file", "File"),
        "Socket" => expect(path, "socket file", "Socket"),
        "CharDevice" => expect(path, "character device", "CharDevice"),
        "BlockDevice" => expect(path, "block device", "BlockDevice"),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

fn exists(path: &Path) -> bool {
    fs::metadata(path).is_ok()
}

fn words(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn kind_of(path: &Path) -> Result<&'static str, String> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("path {:?} does not exist", path.display().to_string()));
        }
        Err(error) => return Err(words(path, &error)),
    };
    let kind = meta.file_type();
    Ok(if kind.is_socket() {
        "Socket"
    } else if kind.is_block_device() {
        "BlockDevice"
    } else if kind.is_char_device() {
        "CharDevice"
    } else if kind.is_dir() {
        "Directory"
    } else if kind.is_file() {
        "File"
    } else {
        return Err(
            "only recognise file, directory, socket, block device and character device".to_owned()
        );
    })
}

fn expect(path: &Path, words: &str, want: &str) -> Result<(), String> {
    let shown = path.display();
    match kind_of(path) {
        Ok(kind) if kind == want => Ok(()),
        Ok(kind) => {
            Err(format!("hostPath type check failed: {shown} is not a {words}, it's a {kind}"))
        }
        Err(why) => Err(format!(
            "hostPath type check failed, {shown} is not a {words}, unable to determine its type: \
             {why}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        assert!(check(&at("a/b"), "DirectoryOrCreate").is_ok());
        assert!(check(&at("a/b"), "Directory").is_ok());
        assert!(check(&at("a/f"), "FileOrCreate").is_ok());
        let path = at("a/f");
        assert_eq!(
            check(&path, "Directory").unwrap_err(),
            format!("hostPath type check failed: {path} is not a directory, it's a File")
        );
        assert!(check(&at("none"), "File").unwrap_err().contains("does not exist"));
        assert!(check(&at("none"), "").is_ok());
        assert!(check("/a/../b", "").is_err());
    }
}
