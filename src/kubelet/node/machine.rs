//! What the machine has: processors, memory, disks, and what it is called.

use std::{collections::BTreeMap, fs, path::Path};

use apimachinery::quantity::{Format, Quantity};

use crate::{config::KubeletConfig, images::gc::Disk, resources::ResourceList};

/// Facts that do not change while the machine runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Bytes of memory.
    pub(crate) memory: i64,
    pub(crate) swap: i64,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) architecture: &'static str,
    /// All that there is.
    pub(crate) capacity: ResourceList,
    /// What pods may have.
    pub(crate) allocatable: ResourceList,
}

/// The architecture as Go and Kubernetes call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A line `NAME: n kB` of /proc/meminfo in bytes.
fn meminfo(text: &str, name: &str) -> i64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<i64>().ok())
        .map_or(0, |kib| kib * 1024)
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

impl Machine {
    /// Looks around.
    pub(crate) fn read(config: &KubeletConfig) -> Self {
        let memory_text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let memory = meminfo(&memory_text, "MemTotal");
        let disk = Disk::at(&config.data_dir).unwrap_or_default();
        let whole = |value: i64, format| Quantity::new(value, format);
        let mut capacity = BTreeMap::from([
            ("cpu".to_owned(), whole(i64::try_from(cpus).unwrap_or(1), Format::DecimalSi)),
            ("memory".to_owned(), whole(memory, Format::BinarySi)),
            ("pods".to_owned(), whole(i64::from(config.max_pods), Format::DecimalSi)),
            (
                "ephemeral-storage".to_owned(),
                whole(i64::try_from(disk.capacity).unwrap_or(0), Format::BinarySi),
            ),
        ]);
        for (size, count) in huge_pages(Path::new("/sys/kernel/mm/hugepages")) {
            let name = format!("hugepages-{}", whole(size, Format::BinarySi));
            capacity.insert(name, whole(size * count, Format::BinarySi));
        }
        let allocatable = allocatable(&capacity, config);
        let machine_id = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
            .into_iter()
            .map(line)
            .find(|id| !id.is_empty())
            .unwrap_or_default();
        let uuid = ["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid"]
            .into_iter()
            .map(line)
            .find(|id| !id.is_empty())
            .unwrap_or_else(|| machine_id.clone());
        Self {
            memory,
            swap: meminfo(&memory_text, "SwapTotal"),
            machine_id,
            system_uuid: uuid,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(),
            architecture: architecture(),
            capacity,
            allocatable,
        }
    }
}

/// Sizes in bytes and numbers of the huge pages that are set aside.
fn huge_pages(folder: &Path) -> Vec<(i64, i64)> {
    let mut sizes: Vec<(i64, i64)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            Some((kib * 1024, count.trim().parse().ok()?))
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

/// Capacity less what is kept back: for the system, for evictions to have time, for huge pages.
fn allocatable(capacity: &ResourceList, config: &KubeletConfig) -> ResourceList {
    let mut allocatable = capacity.clone();
    let mut less = |name: &str, amount: Quantity| {
        if let Some(left) = allocatable.get_mut(name) {
            *left -= amount;
            if left.signum() < 0 {
                *left = Quantity::ZERO;
            }
        }
    };
    for (name, text) in &config.reserved {
        if let Ok(amount) = Quantity::parse(text) {
            less(name, amount);
        }
    }
    let bytes =
        |value: u64| Quantity::new(i64::try_from(value).unwrap_or(i64::MAX), Format::BinarySi);
    less("memory", bytes(config.eviction.memory_available));
    let storage = capacity.get("ephemeral-storage").map_or(0, Quantity::value);
    let kept = storage as f64 * config.eviction.nodefs_available / 100.0;
    less("ephemeral-storage", bytes(kept as u64));
    for (name, amount) in capacity {
        if name.starts_with("hugepages-") {
            less("memory", *amount);
        }
    }
    // As upstream shows it: what was computed has no binary suffix any more.
    if let Some(storage) = allocatable.get_mut("ephemeral-storage") {
        *storage = storage.with_format(Format::DecimalSi);
    }
    allocatable
}

/// What is used of the machine at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Time that processors worked since the start of the machine, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Bytes that can be had without pressing anybody.
    pub(crate) memory_available: u64,
    pub(crate) memory_used: u64,
    /// Processes and threads.
    pub(crate) threads: u64,
    pub(crate) max_threads: u64,
}

/// Reads it.
pub(crate) fn usage() -> Usage {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| u64::try_from(meminfo(&memory, name)).unwrap_or(0);
    let available = bytes("MemAvailable");
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .enumerate()
        // The fourth and fifth are idle and waiting for disks.
        .filter(|(at, _)| *at < 8 && *at != 3 && *at != 4)
        .filter_map(|(_, text)| text.parse::<u64>().ok())
        .sum();
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let threads = loads
        .split_whitespace()
        .nth(3)
        .and_then(|part| part.split_once('/')?.1.parse().ok())
        .unwrap_or(0);
    let max = line("/proc/sys/kernel/pid_max").parse().unwrap_or(u64::MAX);
    Usage {
        // A tick is a hundredth of a second in what the kernel shows.
        cpu_ns: ticks * 10_000_000,
        memory_available: available,
        memory_used: bytes("MemTotal").saturating_sub(available),
        threads,
        max_threads: max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_something() {
        let config = KubeletConfig {
            data_dir: std::env::temp_dir(),
            reserved: BTreeMap::from([("cpu".to_owned(), "100m".to_owned())]),
            ..KubeletConfig::default()
        };
        let machine = Machine::read(&config);
        let of = |list: &ResourceList, name: &str| list[name].milli_value();
        assert_eq!(of(&machine.capacity, "cpu") - of(&machine.allocatable, "cpu"), 100);
        assert_eq!(
            machine.capacity["memory"].value() - machine.allocatable["memory"].value(),
            100 << 20
        );
        assert!(machine.memory > 0 && !machine.kernel.is_empty() && !machine.boot_id.is_empty());
        assert!(usage().memory_available > 0 && usage().threads > 0);
    }

    #[test]
    fn meminfo_is_in_kilobytes() {
        assert_eq!(meminfo("MemTotal:     1024 kB\nMemFree: 1 kB\n", "MemTotal"), 1 << 20);
        assert_eq!(meminfo("", "MemTotal"), 0);
    }
}
