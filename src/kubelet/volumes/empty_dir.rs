//! Empty folders that live as long as the pod, on disk or in memory.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use nix::mount::{MsFlags, mount};

use super::mounts::is_mount_point;
use crate::resources::cgroups::pod_resources;

/// Where the folder's contents are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Disk,
    /// In memory, up to so many bytes; 0 is no limit.
    Memory(i64),
    /// In huge pages of so many bytes; 0 is the node's default size.
    HugePages(i64),
}

impl Kind {
    /// What the pod asks for.
    pub(super) fn of(
        source: &EmptyDirVolumeSource,
        pod: &Pod,
        allocatable_memory: i64,
    ) -> Result<Self, String> {
        match source.medium.as_deref().unwrap_or_default() {
            "" => Ok(Kind::Disk),
            "Memory" => Ok(Kind::Memory(memory_size(source, pod, allocatable_memory))),
            medium => {
                let size = medium
                    .strip_prefix("HugePages")
                    .ok_or_else(|| format!("unknown storage medium {medium:?}"))?;
                let size = size.strip_prefix('-').unwrap_or_default();
                Ok(Kind::HugePages(Quantity::parse(size).map(|q| q.value()).unwrap_or(0)))
            }
        }
    }
}

/// Makes the folder, and the filesystem in memory that it asks for.
pub(super) fn set_up(path: &Path, kind: &Kind) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if *kind != Kind::Disk && !is_mount_point(path)? {
        let option = |name: &str, value: i64| (value > 0).then(|| format!("{name}={value}"));
        let (filesystem, options) = match kind {
            Kind::HugePages(bytes) => ("hugetlbfs", option("pagesize", *bytes)),
            Kind::Memory(bytes) => ("tmpfs", option("size", *bytes)),
            Kind::Disk => ("tmpfs", None),
        };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some(filesystem), path, Some(filesystem), flags, options.as_deref())?;
    }
    if fs::metadata(path)?.permissions().mode() & 0o777 != 0o777 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

/// The least of what the node has for pods, what the pod may use and what the volume names.
fn memory_size(source: &EmptyDirVolumeSource, pod: &Pod, allocatable: i64) -> i64 {
    let own = source.size_limit.as_ref().and_then(|q| Quantity::parse(&q.0).ok());
    let limits = [
        Some(allocatable),
        pod_resources(pod, -1).memory_limit,
        own.map(|quantity| quantity.value()),
    ];
    limits.into_iter().flatten().filter(|bytes| *bytes > 0).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_least_limit_counts() {
        let size = |limit: Option<&str>, memory: Option<&str>| {
            let source = serde_json::from_value(json!({"sizeLimit": limit})).unwrap();
            let resources = memory.map(|m| json!({"limits": {"memory": m}}));
            let pod = serde_json::from_value(
                json!({"spec": {"containers": [{"name": "a", "resources": resources}]}}),
            )
            .unwrap();
            memory_size(&source, &pod, 1 << 30)
        };
        assert_eq!(size(None, None), 1 << 30);
        assert_eq!(size(Some("64Mi"), None), 64 << 20);
        assert_eq!(size(Some("64Mi"), Some("32Mi")), 32 << 20);
    }
}
