//! Files that change all at once: a folder of links into `..data`, itself a link to a folder named
//! after the moment, which is replaced in one rename. The layout is upstream's, for containers
//! watch for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    /// Owner, root when absent.
    pub(crate) user: Option<u32>,
}

/// Files by their path below the volume.
pub(crate) type Payload = BTreeMap<String, File>;

/// Why a path cannot be a file of a volume, as upstream words it.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err(format!("invalid path: must not be empty: {path:?}"));
    }
    if path.starts_with('/') {
        return Err(format!("invalid path: must be relative path: {path}"));
    }
    if path.len() > MAX_PATH {
        return Err(format!("invalid path: must be less than or equal to {MAX_PATH} characters"));
    }
    for (at, part) in path.split('/').enumerate() {
        if part == ".." {
            return Err(format!("invalid path: must not contain '..': {path}"));
        }
        if part.len() > MAX_NAME {
            return Err(format!(
                "invalid path: filenames must be less than or equal to {MAX_NAME} characters"
            ));
        }
        if at == 0 && part.starts_with("..") {
            return Err(format!("invalid path: must not start with '..': {path}"));
        }
    }
    Ok(())
}

fn clean(path: &str) -> PathBuf {
    Path::new(path).components().filter(|c| matches!(c, Component::Normal(_))).collect()
}

/// Makes `folder` hold exactly `payload`. `finish` is called with the new folder before it becomes
/// visible, to set owners. Answers whether anything was written.
pub(crate) fn write(
    folder: &Path,
    payload: &Payload,
    finish: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    let mut files: BTreeMap<PathBuf, &File> = BTreeMap::new();
    for (path, file) in payload {
        check_path(path).map_err(io::Error::other)?;
        files.insert(clean(path), file);
    }
    let data = folder.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(target) => Some(folder.join(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let changed = match &old {
        Some(old) => differs(old, &files)?,
        None => true,
    };
    if changed {
        let new = fresh_folder(folder)?;
        let written = fill(&new, &files).and_then(|()| finish(&new)).and_then(|()| {
            let link = folder.join(NEW_DATA);
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(new.file_name().unwrap_or_default(), &link)?;
            fs::rename(&link, &data)
        });
        if let Err(error) = written {
            // What is left behind is not visible; the next attempt makes its own folder.
            let _ = fs::remove_dir_all(&new);
            return Err(error);
        }
    }
    let visible: BTreeSet<OsString> = files
        .keys()
        .filter_map(|path| path.components().next())
        .map(|part| part.as_os_str().to_owned())
        .collect();
    for name in &visible {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    if changed {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let own = name.as_encoded_bytes().starts_with(b"..");
            // Folders are mount points of other volumes.
            if !own && entry.file_type()?.is_symlink() && !visible.contains(&name) {
                fs::remove_file(folder.join(&name))?;
            }
        }
        if let Some(old) = old {
            fs::remove_dir_all(old)?;
        }
    }
    Ok(changed)
}

/// Whether the files at `old` are others than `files`, or have other contents or modes.
fn differs(old: &Path, files: &BTreeMap<PathBuf, &File>) -> io::Result<bool> {
    let mut present = BTreeSet::new();
    if list(old, Path::new(""), &mut present).is_err() {
        return Ok(true);
    }
    if !present.iter().eq(files.keys()) {
        return Ok(true);
    }
    for (path, file) in files {
        let full = old.join(path);
        if fs::metadata(&full)?.len() != file.data.len() as u64 || fs::read(&full)? != file.data {
            return Ok(true);
        }
    }
    Ok(false)
}

fn list(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// A new folder named after the moment: `..2026_01_02_03_04_05.123456789`.
fn fresh_folder(folder: &Path) -> io::Result<PathBuf> {
    loop {
        let now = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
        let path = folder.join(format!("{now}.{}", rand::random_range(0..1_000_000_000u32)));
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn fill(folder: &Path, files: &BTreeMap<PathBuf, &File>) -> io::Result<()> {
    for (path, file) in files {
        let full = folder.join(path);
        if let Some(parent) = path.parent()
            && !parent.as_os_str().is_empty()
        {
            let mut made = folder.to_owned();
            for part in parent.components() {
                made.push(part);
                match fs::create_dir(&made) {
                    Ok(()) => fs::set_permissions(&made, fs::Permissions::from_mode(0o755))?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
        }
        fs::write(&full, &file.data)?;
        fs::set_permissions(&full, fs::Permissions::from_mode(file.mode & 0o7777))?;
        if let Some(user) = file.user {
            std::os::unix::fs::lchown(&full, Some(user), None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| {
                let data = text.as_bytes().to_vec();
                ((*path).to_owned(), File { data, mode: 0o640, user: None })
            })
            .collect()
    }

    fn put(folder: &Path, files: &[(&str, &str)]) -> bool {
        write(folder, &payload(files), |_| Ok(())).unwrap()
    }

    #[test]
    fn files_change_together_and_only_when_they_do() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        assert!(put(folder.path(), &[("a", "1"), ("d/b", "2")]));
        assert_eq!(fs::read_link(at("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_link(at("d")).unwrap(), Path::new("..data/d"));
        assert_eq!(fs::read(at("d/b")).unwrap(), b"2");
        assert_eq!(fs::metadata(at("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let first = fs::read_link(at("..data")).unwrap();

        assert!(!put(folder.path(), &[("a", "1"), ("d/b", "2")]));
        assert_eq!(fs::read_link(at("..data")).unwrap(), first);

        assert!(put(folder.path(), &[("a", "3"), ("c", "4")]));
        assert_eq!(fs::read(at("a")).unwrap(), b"3");
        assert_eq!(fs::read(at("c")).unwrap(), b"4");
        assert!(fs::symlink_metadata(at("d")).is_err());
        assert!(!at(first.to_str().unwrap()).exists());

        assert!(put(folder.path(), &[]));
        assert_eq!(fs::read_dir(at("..data")).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_link_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), &[("a", "1")]);
        fs::remove_file(folder.path().join("a")).unwrap();
        assert!(!put(folder.path(), &[("a", "1")]));
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"1");
    }

    #[test]
    fn paths_stay_below() {
        for path in ["", "/a", "../a", "a/../b", "..a"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        for path in ["a", "a/b", "a/..b", ".a"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
    }
}
