//! Control groups: which version, which controllers, and whether they may be used.

use linux::{
    cgroup::{Cgroups, Version},
    procfs,
};

use super::Finding;

/// Without these no pod can be limited or counted.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn controllers(root: &str) -> Finding {
    let cgroups = match Cgroups::detect(root) {
        Ok(cgroups) => cgroups,
        Err(error) => {
            return Finding::missing(
                "cgroups",
                error.to_string(),
                "mount -t cgroup2 none /sys/fs/cgroup",
            );
        }
    };
    let version = match cgroups.version() {
        Version::V1 => "v1",
        Version::V2 => "v2",
    };
    let lacking: Vec<&str> = NEEDED.into_iter().filter(|name| !cgroups.has(name)).collect();
    if !lacking.is_empty() {
        let found = format!("{version} without {}", lacking.join(", "));
        return Finding::missing("cgroups", found, advice(&lacking, cgroups.version()));
    }
    if let Some(place) = read_only(cgroups.version()) {
        return Finding::missing(
            "cgroups",
            format!("{version}, but {place} is read-only"),
            "in a container, give it its cgroups to write (privileged)",
        );
    }
    Finding::ok("cgroups", format!("{version} with {}", NEEDED.join(", ")))
}

/// What only some pods ask for.
pub(super) fn optional(root: &str) -> Finding {
    let cgroups = Cgroups::detect(root);
    match cgroups.is_ok_and(|cgroups| cgroups.has("cpuset")) {
        true => Finding::ok("cpuset", "there"),
        false => Finding::warning(
            "cpuset",
            "no such cgroup controller: pods cannot have CPUs of their own",
            "mount or delegate it if any pod needs that",
        ),
    }
}

fn advice(lacking: &[&str], version: Version) -> String {
    let known = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let disabled = known.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first().is_some_and(|name| lacking.contains(name)) && fields.get(3) == Some(&"0")
    });
    match version {
        // What Raspberry Pis come with.
        _ if disabled && lacking.contains(&"memory") => {
            "boot the kernel with cgroup_enable=memory cgroup_memory=1".to_owned()
        }
        Version::V1 => {
            format!("mount -t cgroup -o {} none DIR for each of them", lacking.join("|"))
        }
        Version::V2 => format!(
            "delegate them: in the unit Delegate=yes, or echo +{} to cgroup.subtree_control of the \
             cgroups above",
            lacking.join(" +")
        ),
    }
}

/// A mount of a hierarchy in use that cannot be written.
fn read_only(version: Version) -> Option<String> {
    let kind = match version {
        Version::V1 => "cgroup",
        Version::V2 => "cgroup2",
    };
    let mounts = procfs::mounts().ok()?;
    let of_needed = |options: &str| {
        version == Version::V2 || options.split(',').any(|option| NEEDED.contains(&option))
    };
    let place = mounts.iter().find(|mount| {
        mount.fstype == kind
            && of_needed(&mount.super_options)
            && mount.options.split(',').any(|option| option == "ro")
    })?;
    Some(place.mount_point.display().to_string())
}
