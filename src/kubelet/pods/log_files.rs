//! Where the logs of containers lie, and how often a container was started before by what it left
//! there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;

use crate::podspec::PodExt;

/// The folder of a pod's logs.
pub(crate) fn pod_folder(log_dir: &Path, pod: &Pod) -> PathBuf {
    log_dir.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
}

/// The log of one instance of a container.
pub(crate) fn file(log_dir: &Path, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
    pod_folder(log_dir, pod).join(container).join(format!("{attempt}.log"))
}

/// The restart count after the highest one that left a log.
pub(crate) fn next_attempt(log_dir: &Path, pod: &Pod, container: &str) -> u32 {
    attempts(&pod_folder(log_dir, pod).join(container)).last().map_or(0, |last| last + 1)
}

/// The restart counts that left a log, in order.
pub(crate) fn attempts(folder: &Path) -> Vec<u32> {
    let mut found: Vec<u32> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.split_once(".log")?.0.parse().ok()
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Where log collectors look for the log of an instance: a link.
pub(super) fn link(log_dir: &Path, pod: &Pod, container: &str, id: &str) -> PathBuf {
    let name = format!("{}_{}_{container}-{id}.log", pod.name(), pod.namespace());
    log_dir.with_file_name("containers").join(name)
}

/// Removes the logs of all pods and the links to them. Whatever else lies there stays, and folders that
/// are empty then go.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_all(log_dir: &Path) -> io::Result<()> {
    let folders = match fs::read_dir(log_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        folders => folders?,
    };
    for folder in folders {
        let name = folder?.file_name();
        // namespace_name_uid
        let parts: Vec<&str> = name.to_str().unwrap_or_default().split('_').collect();
        if let [_, _, uid] = parts[..] {
            remove(log_dir, uid)?;
        }
    }
    for folder in [log_dir, &log_dir.with_file_name("containers")] {
        // Others may have files there.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// Removes the logs of a pod whose folder ends in `_<uid>`, and the links to them.
pub(super) fn remove(log_dir: &Path, uid: &str) -> io::Result<()> {
    for entry in fs::read_dir(log_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let folder = entry.path();
        if name.to_string_lossy().rsplit('_').next() == Some(uid) {
            for link in fs::read_dir(log_dir.with_file_name("containers")).into_iter().flatten() {
                let link = link?.path();
                if fs::read_link(&link).is_ok_and(|target| target.starts_with(&folder)) {
                    fs::remove_file(link)?;
                }
            }
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

/// Removes the logs of an instance, its rotated ones too.
pub(super) fn remove_instance(log: &Path) {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|other| other.starts_with(name)) {
            // Gone already is as good.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_read_off_the_logs() {
        let folder = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"}}))
        .unwrap();
        assert_eq!(next_attempt(folder.path(), &pod, "c"), 0);
        let logs = pod_folder(folder.path(), &pod).join("c");
        fs::create_dir_all(&logs).unwrap();
        for name in ["0.log", "2.log", "2.log.20260102-030405", "11.log", "x.log"] {
            fs::write(logs.join(name), "").unwrap();
        }
        assert_eq!(attempts(&logs), [0, 2, 11]);
        assert_eq!(next_attempt(folder.path(), &pod, "c"), 12);
        remove_instance(&logs.join("2.log"));
        assert_eq!(attempts(&logs), [0, 11]);
        remove(folder.path(), "u").unwrap();
        assert!(!logs.exists());
    }

    #[test]
    fn only_the_logs_of_pods_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("pods");
        remove_all(&logs).unwrap();
        fs::create_dir_all(logs.join("n_p_u/c")).unwrap();
        fs::write(logs.join("other.log"), "").unwrap();
        remove_all(&logs).unwrap();
        assert!(logs.join("other.log").exists() && !logs.join("n_p_u").exists());
        fs::remove_file(logs.join("other.log")).unwrap();
        remove_all(&logs).unwrap();
        assert!(!logs.exists());
    }
}
