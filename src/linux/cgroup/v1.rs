//! Version 1: a hierarchy for each controller.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Resources, Stats, field};
use crate::procfs::MountInfo;

/// Controllers that every cgroup is made in. The others (cpuset, hugetlb) only where a limit asks
/// for it: each hierarchy costs a container's start a move.
const ALWAYS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "devices"];
const ON_DEMAND: [&str; 2] = ["cpuset", "hugetlb"];

/// Where each controller is mounted. systemd's own hierarchy is one of them where systemd runs,
/// so that it does not count containers as processes of this program's unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Mounts(BTreeMap<String, PathBuf>);

impl Mounts {
    pub(super) fn find(mounts: &[MountInfo]) -> Mounts {
        let mut found = BTreeMap::new();
        for mount in mounts.iter().filter(|m| m.fstype == "cgroup") {
            for option in mount.super_options.split(',') {
                let known = ALWAYS.contains(&option) || ON_DEMAND.contains(&option);
                let systemd = option == "name=systemd" && Path::new("/run/systemd/system").exists();
                if known || systemd {
                    found.entry(option.to_owned()).or_insert_with(|| mount.mount_point.clone());
                }
            }
        }
        Mounts(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, controller: &str) -> Option<&Path> {
        self.0.get(controller).map(PathBuf::as_path)
    }

    /// Each mount once: cpu and cpuacct may share one.
    pub(super) fn all(&self) -> impl Iterator<Item = &Path> {
        let mut mounts: Vec<&Path> = self.0.values().map(PathBuf::as_path).collect();
        mounts.sort_unstable();
        mounts.dedup();
        mounts.into_iter()
    }

    pub(super) fn create(&self, below: &Path, resources: &Resources) -> io::Result<()> {
        for (controller, mount) in &self.0 {
            let wanted = match controller.as_str() {
                "cpuset" => resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some(),
                "hugetlb" => !resources.hugepages.is_empty(),
                _ => true,
            };
            if !wanted {
                continue;
            }
            if controller == "cpuset" {
                create_cpuset(mount, below)?;
            } else {
                std::fs::create_dir_all(mount.join(below))?;
            }
        }
        self.set(below, resources)
    }

    pub(super) fn set(&self, below: &Path, r: &Resources) -> io::Result<()> {
        let folder = |controller: &str| self.get(controller).map(|mount| mount.join(below));
        if let Some(cpu) = folder("cpu") {
            set_number(&cpu, "cpu.shares", r.cpu_shares.map(|n| n.clamp(2, 262_144)))?;
            set_cpu_bandwidth(&cpu, r.cpu_quota, r.cpu_period)?;
        }
        if let Some(memory) = folder("memory") {
            set_memory(&memory, r.memory_limit, r.memory_swap_limit)?;
        }
        if let (Some(pids), Some(limit)) = (folder("pids"), r.pids_limit) {
            let limit = if limit <= 0 { "max".to_owned() } else { limit.to_string() };
            write(&pids, "pids.max", &limit)?;
        }
        if let Some(cpuset) = folder("cpuset") {
            for (file, value) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)]
            {
                if let Some(value) = value {
                    write(&cpuset, file, value)?;
                }
            }
        }
        if let Some(hugetlb) = folder("hugetlb") {
            for (size, limit) in &r.hugepages {
                write(&hugetlb, &format!("hugetlb.{size}.limit_in_bytes"), &limit.to_string())?;
            }
        }
        Ok(())
    }

    pub(super) fn stats(&self, below: &Path) -> io::Result<Stats> {
        let mut stats = Stats::default();
        let number = |controller: &str, file: &str| -> io::Result<u64> {
            match self.get(controller) {
                Some(mount) => read_number(&mount.join(below).join(file)),
                None => Ok(0),
            }
        };
        stats.cpu_usage_ns = number("cpuacct", "cpuacct.usage")?;
        stats.pids = number("pids", "pids.current").unwrap_or(0);
        if let Some(memory) = self.get("memory").map(|mount| mount.join(below)) {
            let text = std::fs::read_to_string(memory.join("memory.stat"))?;
            let of = |key: &str| field(&text, key).unwrap_or(0);
            stats.memory_usage = read_number(&memory.join("memory.usage_in_bytes"))?;
            stats.memory_working_set = stats.memory_usage.saturating_sub(of("total_inactive_file"));
            stats.memory_rss = of("total_rss");
            stats.swap_usage = of("total_swap");
            stats.page_faults = of("total_pgfault");
            stats.major_page_faults = of("total_pgmajfault");
            let limit = read_number(&memory.join("memory.limit_in_bytes"))?;
            // "Unlimited" is the largest multiple of the page size.
            stats.memory_limit = (limit < i64::MAX as u64 - 65_536).then_some(limit);
            stats.oom_kills = super::oom_kills(&memory.join("memory.oom_control"));
        }
        Ok(stats)
    }
}

/// A new cpuset is empty and takes no process until it has CPUs and memory nodes: each level
/// inherits them from the one above.
fn create_cpuset(mount: &Path, below: &Path) -> io::Result<()> {
    let mut folder = mount.to_owned();
    for name in below.components() {
        let parent = folder.clone();
        folder.push(name);
        if folder.is_dir() {
            continue;
        }
        std::fs::create_dir(&folder)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let inherited = std::fs::read_to_string(parent.join(file))?;
            write(&folder, file, inherited.trim())?;
        }
    }
    Ok(())
}

fn set_cpu_bandwidth(folder: &Path, quota: Option<i64>, period: Option<u64>) -> io::Result<()> {
    // Either order may be refused, depending on what the group above allows at that moment.
    let early = set_number(folder, "cpu.cfs_period_us", period);
    if let Some(quota) = quota {
        write(folder, "cpu.cfs_quota_us", &quota.max(-1).to_string())?;
    }
    match early {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            set_number(folder, "cpu.cfs_period_us", period)
        }
        other => other,
    }
}

fn set_memory(folder: &Path, limit: Option<i64>, both: Option<i64>) -> io::Result<()> {
    let limit = limit.map(|n| n.max(-1).to_string());
    let both = both.map(|n| n.max(-1).to_string());
    let set_limit = || match &limit {
        Some(limit) => write(folder, "memory.limit_in_bytes", limit),
        None => Ok(()),
    };
    let set_both = || match &both {
        // Without swap accounting the file is not there, and there is nothing to limit.
        Some(both) => match write(folder, "memory.memsw.limit_in_bytes", both) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        },
        None => Ok(()),
    };
    // The limit of both may never be below that of memory, so the order depends on the direction.
    match set_limit() {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) && both.is_some() => {
            set_both()?;
            set_limit()
        }
        other => other.and_then(|()| set_both()),
    }
}

fn set_number(folder: &Path, file: &str, value: Option<u64>) -> io::Result<()> {
    match value {
        Some(value) => write(folder, file, &value.to_string()),
        None => Ok(()),
    }
}

/// Writes a value with one system call, and says which file refused it.
pub(super) fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    use std::io::Write;
    let path = folder.join(file);
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|e| match e.raw_os_error() {
            // Callers tell these apart by their number.
            Some(libc::EINVAL | libc::EBUSY | libc::ENOENT) => e,
            _ => io::Error::new(e.kind(), format!("{} to {}: {e}", value, path.display())),
        })
}

pub(super) fn read_number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}
