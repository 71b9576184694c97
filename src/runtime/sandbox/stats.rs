//! Usage of a pod and its containers.

use std::path::Path;

use super::state::Inner;
use crate::error::{Context, Result};
use crate::state::{ContainerStats, DiskUsage, SandboxStats, Status};

pub(super) fn stats(inner: &Inner) -> Result<SandboxStats> {
    let cgroups = &inner.shared.cgroups;
    let pod = &inner.spec.cgroup_parent;
    let mut containers = Vec::new();
    for state in inner.states().into_iter().filter(|s| s.status == Status::Running) {
        // One that ends at this moment has none.
        let Ok(cgroup) = cgroups.stats(&inner.container_cgroup(&state.id)) else { continue };
        let (dir, _) = inner.shared.layout.container(&state.id);
        let writable_layer = disk_usage(&dir.join("upper"));
        containers.push(ContainerStats { id: state.id, name: state.name, cgroup, writable_layer });
    }
    Ok(SandboxStats { cgroup: cgroups.stats(pod).at("read cgroup", pod.as_ref())?, containers })
}

/// Space that a folder takes with everything below it. What vanishes meanwhile does not count.
pub(crate) fn disk_usage(path: &Path) -> DiskUsage {
    use std::os::unix::fs::MetadataExt;
    let mut usage = DiskUsage::default();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            usage.bytes += metadata.blocks() * 512;
            usage.inodes += 1;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    usage
}
