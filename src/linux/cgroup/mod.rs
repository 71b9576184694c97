//! Control groups, version 1 and 2, behind one interface.
//!
//! Paths are those that the kubelet uses, `/kubepods/burstable/pod<uid>/<container>`, below a root
//! that is usually `/`. A controller that the kernel does not have is left out; see
//! [`Cgroups::has`].

mod devices;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::{self, Pid};
use crate::procfs;
use crate::signal::Signal;
pub use devices::{DeviceKind, DeviceRule};

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

/// The version of the hierarchy that has the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// The cgroups of this machine below a root.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Layout,
    root: String,
}

#[derive(Clone, Debug)]
enum Layout {
    V1(v1::Mounts),
    V2(PathBuf),
}

/// How long processes may take to go after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to let go of a cgroup whose processes have ended.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);

impl Cgroups {
    /// Finds the hierarchies. `root` is the cgroup below which everything happens, `/` for none.
    pub fn detect(root: &str) -> io::Result<Cgroups> {
        let mounts = procfs::mounts()?;
        let unified = Path::new("/sys/fs/cgroup");
        let layout = if crate::fs::is_cgroup2(unified) {
            Layout::V2(unified.to_owned())
        } else {
            let v1 = v1::Mounts::find(&mounts);
            if v1.is_empty() {
                let v2 = mounts.iter().find(|m| m.fstype == "cgroup2");
                let v2 = v2.ok_or_else(|| io::Error::other("no cgroup hierarchy is mounted"))?;
                Layout::V2(v2.mount_point.clone())
            } else {
                Layout::V1(v1)
            }
        };
        Ok(Cgroups { layout, root: root.trim_matches('/').to_owned() })
    }

    /// The v2 hierarchy mounted at a folder, whatever else there is.
    pub fn v2_at(mount: impl Into<PathBuf>, root: &str) -> Cgroups {
        Cgroups { layout: Layout::V2(mount.into()), root: root.trim_matches('/').to_owned() }
    }

    /// Which version is in use.
    pub fn version(&self) -> Version {
        match self.layout {
            Layout::V1(_) => Version::V1,
            Layout::V2(_) => Version::V2,
        }
    }

    /// Whether a controller (`memory`, `cpu`, `pids`, …) is there to limit anything.
    pub fn has(&self, controller: &str) -> bool {
        match &self.layout {
            Layout::V1(mounts) => mounts.get(controller).is_some(),
            Layout::V2(mount) => v2::controllers(mount).iter().any(|c| c == controller),
        }
    }

    /// A cgroup's path below the mount of its hierarchy, without leading slash.
    fn below(&self, path: &str) -> io::Result<PathBuf> {
        let path = Path::new(path.trim_start_matches('/'));
        let plain = |c: std::path::Component<'_>| matches!(c, std::path::Component::Normal(_));
        if !path.components().all(plain) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Path::new(&self.root).join(path))
    }

    /// The folders of a cgroup that exist, one per hierarchy.
    fn folders(&self, path: &str) -> io::Result<Vec<PathBuf>> {
        let below = self.below(path)?;
        let mut all = match &self.layout {
            Layout::V1(mounts) => mounts.all().map(|m| m.join(&below)).collect(),
            Layout::V2(mount) => vec![mount.join(&below)],
        };
        all.retain(|folder: &PathBuf| folder.is_dir());
        Ok(all)
    }

    /// Makes a cgroup, with those above it, and sets its limits. One that exists is updated.
    pub fn create(&self, path: &str, resources: &Resources) -> io::Result<()> {
        let below = self.below(path)?;
        match &self.layout {
            Layout::V1(mounts) => mounts.create(&below, resources),
            Layout::V2(mount) => v2::create(mount, &below, resources),
        }
    }

    /// Changes limits.
    pub fn update(&self, path: &str, resources: &Resources) -> io::Result<()> {
        let below = self.below(path)?;
        match &self.layout {
            Layout::V1(mounts) => mounts.set(&below, resources),
            Layout::V2(mount) => v2::set(&mount.join(below), resources),
        }
    }

    /// Denies all devices but those of the rules.
    pub fn allow_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        let below = self.below(path)?;
        match &self.layout {
            Layout::V1(mounts) => match mounts.get("devices") {
                Some(mount) => devices::allow_v1(&mount.join(below), rules),
                None => Ok(()),
            },
            Layout::V2(mount) => devices::allow_v2(&mount.join(below), rules),
        }
    }

    /// Moves a process into a cgroup.
    pub fn join(&self, path: &str, pid: Pid) -> io::Result<()> {
        for folder in self.folders(path)? {
            v1::write(&folder, "cgroup.procs", &pid.to_string())?;
        }
        Ok(())
    }

    /// On v2 the cgroup's folder, for [`process::clone_into`]; on v1 `None`: the process has to
    /// [`Cgroups::join`].
    pub fn handle(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        match &self.layout {
            Layout::V1(_) => Ok(None),
            Layout::V2(mount) => {
                let folder = mount.join(self.below(path)?);
                Ok(Some(std::fs::File::open(folder)?.into()))
            }
        }
    }

    /// Whether a cgroup exists in any hierarchy.
    pub fn exists(&self, path: &str) -> bool {
        self.folders(path).is_ok_and(|folders| !folders.is_empty())
    }

    /// The names of the cgroups right below one.
    pub fn children(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = std::collections::BTreeSet::new();
        for folder in self.folders(path)? {
            names.extend(subfolders(&folder)?);
        }
        Ok(names.into_iter().collect())
    }

    /// The processes of a cgroup and of those below it.
    pub fn processes(&self, path: &str) -> io::Result<Vec<Pid>> {
        let mut pids = Vec::new();
        for folder in self.folders(path)? {
            collect_processes(&folder, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills every process of a cgroup and of those below it, and waits until they are gone.
    pub fn kill(&self, path: &str) -> io::Result<()> {
        let folders = self.folders(path)?;
        for folder in &folders {
            // v2 since Linux 5.14 does it all; on v1 nothing can be forked from here on.
            if v1::write(folder, "cgroup.kill", "1").is_err() {
                let _ = v1::write(folder, "pids.max", "0");
            }
        }
        patiently(KILL_PATIENCE, || {
            let pids = self.processes(path)?;
            for pid in &pids {
                let _ = process::kill(*pid, Signal::KILL);
            }
            Ok(pids.is_empty())
        })
    }

    /// Stops all processes of a cgroup, or lets them go on. Only on v2.
    pub fn freeze(&self, path: &str, frozen: bool) -> io::Result<()> {
        match &self.layout {
            Layout::V1(_) => Err(io::ErrorKind::Unsupported.into()),
            Layout::V2(mount) => {
                let folder = mount.join(self.below(path)?);
                v1::write(&folder, "cgroup.freeze", if frozen { "1" } else { "0" })
            }
        }
    }

    /// Removes a cgroup and those below it, which must be without processes. Idempotent.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        for folder in self.folders(path)? {
            patiently(REMOVE_PATIENCE, || match remove_tree(&folder) {
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(false),
                other => other.map(|()| true),
            })?;
        }
        Ok(())
    }

    /// What a cgroup uses.
    pub fn stats(&self, path: &str) -> io::Result<Stats> {
        let below = self.below(path)?;
        match &self.layout {
            Layout::V1(mounts) => mounts.stats(&below),
            Layout::V2(mount) => v2::stats(&mount.join(below)),
        }
    }

    /// Removes a cgroup if it is empty, then those above it, up to and with the root that was given
    /// to [`Cgroups::detect`]. Stops at the first that is in use.
    pub fn prune(&self, path: &str) {
        let Ok(mut below) = self.below(path) else { return };
        while !below.as_os_str().is_empty() {
            let folders: Vec<PathBuf> = match &self.layout {
                Layout::V1(mounts) => mounts.all().map(|m| m.join(&below)).collect(),
                Layout::V2(mount) => vec![mount.join(&below)],
            };
            let in_use = |folder: &PathBuf| match std::fs::remove_dir(folder) {
                Err(e) => !gone(&e),
                Ok(()) => false,
            };
            // Each hierarchy on its own, so no short cut.
            if folders.iter().filter(|f| in_use(f)).count() > 0 {
                return;
            }
            below.pop();
        }
    }

    /// The file that lists a cgroup's processes (on v1 that of one of its controllers).
    pub fn procs_file(&self, path: &str) -> io::Result<PathBuf> {
        let below = self.below(path)?;
        let mount = match &self.layout {
            Layout::V1(mounts) => ["pids", "memory", "cpu"].iter().find_map(|c| mounts.get(c)),
            Layout::V2(mount) => Some(mount.as_path()),
        };
        Ok(mount.map(|m| m.join(below).join("cgroup.procs")).unwrap_or_default())
    }

    /// On v1 the folder of a cgroup in each hierarchy that its own processes are shown; on v2
    /// `None`.
    pub fn v1_folders(&self, path: &str) -> Option<Vec<(String, PathBuf)>> {
        let Layout::V1(mounts) = &self.layout else { return None };
        let below = self.below(path).ok()?;
        let shown = ["cpu", "cpuacct", "memory", "pids"];
        let folder = |c: &&str| Some((c.to_string(), mounts.get(c)?.join(&below)));
        Some(shown.iter().filter_map(folder).collect())
    }

    /// The file that counts OOM kills, for [`oom_kills`]; it may not exist.
    pub fn oom_file(&self, path: &str) -> io::Result<PathBuf> {
        let below = self.below(path)?;
        Ok(match &self.layout {
            Layout::V1(mounts) => match mounts.get("memory") {
                Some(mount) => mount.join(below).join("memory.oom_control"),
                None => PathBuf::new(),
            },
            Layout::V2(mount) => mount.join(below).join("memory.events"),
        })
    }
}

/// How often the OOM killer killed, by the file of [`Cgroups::oom_file`]; 0 when it is not there.
pub fn oom_kills(file: &Path) -> u64 {
    std::fs::read_to_string(file).map_or(0, |text| field(&text, "oom_kill").unwrap_or(0))
}

/// The number after a key, in a file with a key and a number on each line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Tries until done, with growing pauses; an error of kind `TimedOut` after `patience`. Nothing
/// announces the moment on v1, and it is a matter of milliseconds.
fn patiently(patience: Duration, mut attempt: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    while !attempt()? {
        if Instant::now() > end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

fn subfolders(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn collect_processes(folder: &Path, pids: &mut Vec<Pid>) -> io::Result<()> {
    match std::fs::read_to_string(folder.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<Pid>().ok())),
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    for name in subfolders(folder)? {
        collect_processes(&folder.join(name), pids)?;
    }
    Ok(())
}

/// Whether a cgroup went away under our hands.
fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for name in subfolders(folder)? {
        remove_tree(&folder.join(name))?;
    }
    match std::fs::remove_dir(folder) {
        Err(e) if gone(&e) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
