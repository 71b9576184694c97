//! What processes use, as the kernel tells it.

use std::{path::Path, time::Duration};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};

/// What some processes have used since they started, and hold now.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Resident memory in KiB.
    pub rss: u64,
    /// CPU time, also of threads that have ended.
    pub cpu: Duration,
    /// Bytes caused to be written to disks.
    pub written: u64,
}

/// The sum over `pids`.
pub fn of(pids: &[u32]) -> Usage {
    pids.iter().fold(Usage::default(), |sum, pid| Usage {
        rss: sum.rss + rss(*pid),
        cpu: sum.cpu + cpu(*pid),
        written: sum.written + field(*pid, "io", "write_bytes:"),
    })
}

/// The resident memory of a process, in KiB.
pub fn rss(pid: u32) -> u64 {
    field(pid, "status", "VmRSS:")
}

/// The proportional share of memory of a process, in KiB.
pub fn pss(pid: u32) -> u64 {
    field(pid, "smaps_rollup", "Pss:")
}

/// The edge processes in the network namespace of `pid`.
pub fn edges(pid: u32) -> Vec<u32> {
    let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let ours = network(pid);
    let edge = |pid: &u32, line: &[String]| {
        line.get(1).is_some_and(|a| a == "edge") && network(*pid) == ours
    };
    processes(edge)
}

/// The shims whose program lies in `folder`.
pub fn shims(folder: &Path) -> Vec<u32> {
    processes(|_, line| {
        line.get(1).is_some_and(|a| a == "shim") && Path::new(&line[0]).starts_with(folder)
    })
}

fn processes(wanted: impl Fn(&u32, &[String]) -> bool) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let line: Vec<String> = line.split_terminator('\0').map(ToOwned::to_owned).collect();
            wanted(pid, &line)
        })
        .collect()
}

fn cpu(pid: u32) -> Duration {
    // Not the times in /proc/PID/stat: those are in hundredths of a second.
    let clock: ClockId = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).unwrap();
    let now: TimeSpec = clock.now().unwrap();
    now.into()
}

fn field(pid: u32, file: &str, name: &str) -> u64 {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{path} has no {name}"))
}
