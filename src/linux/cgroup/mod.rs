//! Control groups, version 1 and 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits of one cgroup. `None` leaves the kernel's default (or the present value) alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight, 2 to 262144, as v1 counts it; converted to `cpu.weight` on v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time per period; negative is unlimited.
    pub cpu_quota: Option<i64>,
    /// Length of the period in microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes; negative is unlimited.
    pub memory_limit: Option<i64>,
    /// Bytes of memory and swap together, as v1 and the CRI count it; negative is unlimited.
    pub memory_swap_limit: Option<i64>,
    /// Processes and threads; negative is unlimited.
    pub pids_limit: Option<i64>,
    /// CPUs, e.g. `0-1,3`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, e.g. `0`.
    pub cpuset_mems: Option<String>,
    /// Page size (`2MB`, `1GB`) to limit in bytes.
    pub hugepages: BTreeMap<String, u64>,
    /// Files of cgroup v2 to write as they are, e.g. `memory.high`.
    pub unified: BTreeMap<String, String>,
}

/// Usage of one cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// Bytes charged, page cache included.
    pub memory_usage: u64,
    /// Bytes charged less the inactive page cache: what cannot be reclaimed easily.
    pub memory_working_set: u64,
    /// Anonymous memory, in bytes.
    pub memory_rss: u64,
    /// Bytes of swap used.
    pub swap_usage: u64,
    /// Limit in bytes, if there is one.
    pub memory_limit: Option<u64>,
    /// Minor page faults.
    pub page_faults: u64,
    /// Major page faults.
    pub major_page_faults: u64,
    /// Processes and threads.
    pub pids: u64,
    /// How often the OOM killer killed.
    pub oom_kills: u64,
}
