//! From a container's security settings to what the kernel is told: capability sets, compiled
//! filters, device rules, hidden paths.

use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::{LazyLock, Mutex, PoisonError};

use linux::capability::Set;
use linux::cgroup::{DeviceKind, DeviceRule};
use linux::seccomp::{self, Filter, Profile};

use crate::error::StartError;
use crate::spec::{Capabilities, ContainerSpec, Seccomp};

const DEFAULT_PROFILE: &str = include_str!("../../embedded/seccomp/default.json");

/// As in `pkg/securitycontext` of Kubernetes.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(crate) fn masked_paths(spec: &ContainerSpec) -> Vec<String> {
    match &spec.masked_paths {
        Some(paths) => paths.clone(),
        None => MASKED_PATHS.map(str::to_owned).to_vec(),
    }
}

pub(crate) fn readonly_paths(spec: &ContainerSpec) -> Vec<String> {
    match &spec.readonly_paths {
        Some(paths) => paths.clone(),
        None => READONLY_PATHS.map(str::to_owned).to_vec(),
    }
}

/// The capabilities of a container: the default set with what is added and without what is
/// dropped. `ALL` comes first, so that `drop: [ALL], add: [X]` leaves X.
pub(crate) fn capabilities(privileged: bool, wanted: &Capabilities) -> Result<Set, StartError> {
    if privileged {
        return Ok(Set::ALL);
    }
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let each = |names: &[String]| -> Result<Set, StartError> {
        let names = names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL"));
        names.into_iter().try_fold(Set::NONE, |set, name| {
            let one = Set::named(name);
            let unknown = || StartError::Create(format!("unknown capability {name:?}"));
            one.map(|one| set.with(one)).ok_or_else(unknown)
        })
    };
    let mut set = Set::container_default();
    if all(&wanted.add) {
        set = Set::ALL;
    }
    if all(&wanted.drop) {
        set = Set::NONE;
    }
    Ok(set.with(each(&wanted.add)?).without(each(&wanted.drop)?))
}

/// The compiled filter of a container.
pub(crate) fn filter(spec: &ContainerSpec, caps: Set) -> Result<Option<Filter>, StartError> {
    if spec.privileged {
        return Ok(None);
    }
    let create = |message: String| StartError::Create(message);
    match &spec.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => default_filter(caps).map(Some).map_err(create),
        Seccomp::Localhost(path) => {
            let shown = path.display();
            let text = std::fs::read(path)
                .map_err(|e| create(format!("cannot load seccomp profile {shown:?}: {e}")))?;
            let profile: Profile = serde_json::from_slice(&text)
                .map_err(|e| create(format!("cannot parse seccomp profile {shown:?}: {e}")))?;
            seccomp::compile(&profile, caps).map(Some).map_err(|e| create(e.to_string()))
        }
    }
}

/// The default filter depends on the capabilities only, and most containers have the same.
fn default_filter(caps: Set) -> Result<Filter, String> {
    static COMPILED: LazyLock<Mutex<HashMap<u64, Filter>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(filter) = compiled.get(&caps.bits()) {
        return Ok(filter.clone());
    }
    let profile: Profile = serde_json::from_str(DEFAULT_PROFILE).map_err(|e| e.to_string())?;
    let filter = seccomp::compile(&profile, caps).map_err(|e| e.to_string())?;
    compiled.insert(caps.bits(), filter.clone());
    Ok(filter)
}

/// Which devices a container may use.
pub(crate) fn device_rules(spec: &ContainerSpec) -> Result<Vec<DeviceRule>, StartError> {
    if spec.privileged {
        return Ok(vec![DeviceRule::ALL]);
    }
    let mut rules = DeviceRule::CONTAINER_DEFAULT.to_vec();
    for device in &spec.devices {
        let shown = device.host_path.display();
        let metadata = std::fs::metadata(&device.host_path)
            .map_err(|e| StartError::Create(format!("device {shown}: {e}")))?;
        let kind = if metadata.file_type().is_block_device() {
            DeviceKind::Block
        } else {
            DeviceKind::Char
        };
        let (major, minor) = linux::fs::device_numbers(metadata.rdev());
        let may = |letter| device.permissions.contains(letter);
        rules.push(DeviceRule {
            kind,
            major: Some(major),
            minor: Some(minor),
            read: may('r'),
            write: may('w'),
            mknod: may('m'),
        });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_added_and_dropped() {
        let names = |v: &[&str]| v.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let set = |add: &[&str], drop: &[&str]| {
            capabilities(false, &Capabilities { add: names(add), drop: names(drop) })
        };
        let raw = Set::named("NET_RAW").unwrap();
        let admin = Set::named("NET_ADMIN").unwrap();
        let default = Set::container_default();
        assert_eq!(set(&[], &[]).unwrap(), default);
        assert_eq!(set(&["NET_ADMIN"], &[]).unwrap(), default.with(admin));
        assert_eq!(set(&[], &["CAP_NET_RAW"]).unwrap(), default.without(raw));
        assert_eq!(set(&["net_admin"], &["ALL"]).unwrap(), admin);
        assert_eq!(set(&["ALL"], &["NET_RAW"]).unwrap(), Set::ALL.without(raw));
        assert!(set(&["CAP_NOPE"], &[]).is_err());
        assert_eq!(capabilities(true, &Capabilities::default()).unwrap(), Set::ALL);
    }

    #[test]
    fn the_default_profile_compiles() {
        let mut spec = ContainerSpec { seccomp: Seccomp::RuntimeDefault, ..Default::default() };
        let default = filter(&spec, Set::container_default()).unwrap().unwrap();
        let admin = filter(&spec, Set::ALL).unwrap().unwrap();
        assert_ne!(default, admin, "capabilities open more calls");
        assert!(default.program.len() < 1500, "{}", default.program.len());
        spec.privileged = true;
        assert!(filter(&spec, Set::ALL).unwrap().is_none());
        spec.privileged = false;
        spec.seccomp = Seccomp::Localhost("/nonexistent.json".into());
        assert!(filter(&spec, Set::ALL).is_err());
    }
}
