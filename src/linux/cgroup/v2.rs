//! Version 2: one hierarchy, in which each level hands controllers down.

use std::io;
use std::path::Path;

use super::v1::{read_number, write};
use super::{Resources, Stats, field};

/// Controllers handed down to pods and containers where the kernel has them.
const WANTED: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "hugetlb", "io"];

/// The controllers that a cgroup may hand down.
pub(super) fn controllers(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Hands the wanted controllers of a cgroup down to those below it.
fn hand_down(folder: &Path, is_root: bool) -> io::Result<()> {
    let given = std::fs::read_to_string(folder.join("cgroup.subtree_control"))?;
    let missing: Vec<String> = controllers(folder)
        .iter()
        .filter(|c| WANTED.contains(&c.as_str()) && !given.split_whitespace().any(|g| g == *c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" ");
    match write(folder, "cgroup.subtree_control", &missing) {
        // Inside a container the apparent root is an ordinary cgroup, which may not have
        // processes and hand controllers down at the same time: they go into a leaf.
        Err(e) if is_root && e.raw_os_error() == Some(libc::EBUSY) => {
            let leaf = folder.join("init");
            std::fs::create_dir_all(&leaf)?;
            for pid in std::fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
                // Gone in the meantime, or a kernel thread.
                let _ = write(&leaf, "cgroup.procs", pid);
            }
            write(folder, "cgroup.subtree_control", &missing)
        }
        other => other,
    }
}

pub(super) fn create(mount: &Path, below: &Path, resources: &Resources) -> io::Result<()> {
    let mut folder = mount.to_owned();
    for (depth, name) in below.components().enumerate() {
        hand_down(&folder, depth == 0)?;
        folder.push(name);
        match std::fs::create_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    set(&folder, resources)
}

/// Writes a limit. Where the controller is missing there is no file: left out.
fn limit(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    match write(folder, file, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && folder.is_dir() => Ok(()),
        other => other,
    }
}

/// A number, or `max` for a negative one.
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// The weight of v2 (1 to 10,000, default 100) for shares of v1 (2 to 262,144, default 1,024), by
/// the curve through both minima, maxima and defaults that runc and the kubelet use.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
}

/// The swap limit of v2 for a limit of memory and swap together.
pub(super) fn swap_limit(both: i64, memory: Option<i64>) -> i64 {
    match memory {
        _ if both < 0 => -1,
        Some(memory) if memory >= 0 => (both - memory).max(0),
        _ => both,
    }
}

pub(super) fn set(folder: &Path, r: &Resources) -> io::Result<()> {
    if let Some(shares) = r.cpu_shares {
        limit(folder, "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    match (r.cpu_quota, r.cpu_period) {
        (None, None) => {}
        (quota, period) => {
            let quota = quota.filter(|q| *q > 0).map_or("max".to_owned(), |q| q.to_string());
            limit(folder, "cpu.max", &format!("{quota} {}", period.unwrap_or(100_000)))?;
        }
    }
    if let Some(both) = r.memory_swap_limit {
        limit(folder, "memory.swap.max", &or_max(swap_limit(both, r.memory_limit)))?;
    }
    if let Some(bytes) = r.memory_limit {
        limit(folder, "memory.max", &or_max(bytes))?;
    }
    if let Some(pids) = r.pids_limit {
        limit(folder, "pids.max", &if pids == 0 { "max".into() } else { or_max(pids) })?;
    }
    for (file, value) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
        if let Some(value) = value {
            limit(folder, file, value)?;
        }
    }
    for (size, bytes) in &r.hugepages {
        limit(folder, &format!("hugetlb.{size}.max"), &bytes.to_string())?;
    }
    for (file, value) in &r.unified {
        if file.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        write(folder, file, value)?;
    }
    Ok(())
}

pub(super) fn stats(folder: &Path) -> io::Result<Stats> {
    let cpu = std::fs::read_to_string(folder.join("cpu.stat"))?;
    // Absent where the controller is: nothing is known then.
    let memory = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let number = |file: &str| read_number(&folder.join(file)).ok();
    let of = |key: &str| field(&memory, key).unwrap_or(0);
    let usage = number("memory.current").unwrap_or(0);
    Ok(Stats {
        cpu_usage_ns: field(&cpu, "usage_usec").unwrap_or(0) * 1000,
        memory_usage: usage,
        memory_working_set: usage.saturating_sub(of("inactive_file")),
        memory_rss: of("anon"),
        swap_usage: number("memory.swap.current").unwrap_or(0),
        memory_limit: number("memory.max"),
        page_faults: of("pgfault"),
        major_page_faults: of("pgmajfault"),
        pids: number("pids.current").unwrap_or(0),
        oom_kills: super::oom_kills(&folder.join("memory.events")),
    })
}
