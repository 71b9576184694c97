//! Kernel version, capabilities, namespaces, seccomp.

use std::{io, os::unix::fs::MetadataExt};

use linux::{capability, namespace};
use netlink::{
    Netns,
    rtnl::{Requests, Rtnl, Vxlan},
};

use super::Finding;

/// The oldest kernel that has all system calls this program makes (`mount_setattr`).
const OLDEST: (u32, u32) = (5, 12);

/// What a node does that only these capabilities allow.
const NEEDED: [&str; 14] = [
    "SYS_ADMIN",
    "NET_ADMIN",
    "NET_RAW",
    "NET_BIND_SERVICE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "SYS_CHROOT",
];

pub(super) fn version() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match parse(release) {
        Some(version) if version < OLDEST => Finding::missing(
            "kernel",
            format!("Linux {release}"),
            format!("{}.{} or newer is needed", OLDEST.0, OLDEST.1),
        ),
        Some(_) => Finding::ok("kernel", format!("Linux {release}")),
        None => Finding::warning("kernel", "its version cannot be read", "is /proc mounted?"),
    }
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether this process may do what a node does.
pub(super) fn privileges() -> Finding {
    let effective = capability::effective().unwrap_or_default();
    let lacking: Vec<&str> = NEEDED.into_iter().filter(|name| !effective.has_named(name)).collect();
    if lacking.is_empty() {
        return Finding::ok("privileges", "all that a node needs");
    }
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let advice = match root {
        true => "in a container or unit, give it all capabilities (privileged)",
        false => "run it as root",
    };
    let found = match root {
        true => format!("root without CAP_{}", lacking.join(", CAP_")),
        false => "not root".to_owned(),
    };
    Finding::missing("privileges", found, advice)
}

/// Limits and OOM scores of containers can be lowered and raised only with this.
pub(super) fn resource_limits() -> Finding {
    let effective = capability::effective().unwrap_or_default();
    match effective.has_named("SYS_RESOURCE") {
        true => Finding::ok("CAP_SYS_RESOURCE", "there"),
        false => Finding::warning(
            "CAP_SYS_RESOURCE",
            "not there: containers cannot have lower OOM scores or higher limits than this process",
            "give the surrounding container or unit this capability",
        ),
    }
}

/// The namespaces that every pod has.
pub(super) fn namespaces() -> Finding {
    let kinds = [
        ("mnt", namespace::MOUNT),
        ("net", namespace::NET),
        ("pid", namespace::PID),
        ("ipc", namespace::IPC),
        ("uts", namespace::UTS),
    ];
    let mut lacking = Vec::new();
    for (name, kind) in kinds {
        if let Err(error) = tried(kind) {
            lacking.push(format!("{name} ({error})"));
        }
    }
    match lacking.as_slice() {
        [] => Finding::ok("namespaces", "mnt, net, pid, ipc, uts"),
        lacking => Finding::missing(
            "namespaces",
            format!("cannot make {}", lacking.join(", ")),
            "a kernel with CONFIG_NAMESPACES is needed, and max_*_namespaces in /proc/sys/user \
             must not be 0",
        ),
    }
}

/// The namespaces that pods have where there are any.
pub(super) fn optional_namespaces() -> [Finding; 2] {
    let cgroup = match tried(namespace::CGROUP) {
        Ok(()) => Finding::ok("cgroup namespace", "there"),
        Err(error) => Finding::warning(
            "cgroup namespace",
            format!("cannot be made ({error}): containers see the cgroups of the whole node"),
            "a kernel with CONFIG_CGROUPS from 4.6 on has them",
        ),
    };
    // A process with threads cannot enter one, so this is asked and not tried.
    let there = std::path::Path::new("/proc/self/ns/user").exists();
    let allowed = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    let allowed = allowed.is_ok_and(|limit| limit.trim() != "0");
    let user = match (there, allowed) {
        (true, true) => Finding::ok("user namespace", "there"),
        (true, false) => Finding::warning(
            "user namespace",
            "not allowed, pods with hostUsers: false cannot have one",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        (false, _) => Finding::warning(
            "user namespace",
            "not there, pods with hostUsers: false cannot have one",
            "a kernel with CONFIG_USER_NS has them",
        ),
    };
    [cgroup, user]
}

/// Makes a namespace and leaves it again, on a thread that ends.
fn tried(kind: i32) -> io::Result<()> {
    let thread = std::thread::Builder::new().spawn(move || namespace::unshare(kind))?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the attempt failed")))
}

/// System call filters, which every container has unless it is privileged.
pub(super) fn seccomp() -> Finding {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    match actions {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => {
            Finding::ok("seccomp", "filters")
        }
        _ => Finding::missing(
            "seccomp",
            "the kernel filters no system calls",
            "a kernel with CONFIG_SECCOMP_FILTER is needed",
        ),
    }
}

/// What joins the pods of several machines.
pub(super) fn vxlan() -> Finding {
    let made = || -> Result<(), Box<dyn std::error::Error>> {
        let netns = Netns::create()?;
        let mut requests = Requests::new();
        requests.add_vxlan(&Vxlan {
            name: "check",
            id: 1,
            mac: [2, 0, 0, 0, 0, 1],
            local: [127, 0, 0, 1].into(),
            underlay: 0,
            port: 8472,
            mtu: 1450,
            group: 0,
        });
        Ok(Rtnl::open_in(&netns)?.execute(&requests)?)
    };
    match made() {
        Ok(()) => Finding::ok("vxlan", "there"),
        Err(error) => Finding::warning(
            "vxlan",
            format!("not there ({error}): no cluster of several machines"),
            "modprobe vxlan, or a kernel with CONFIG_VXLAN",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_distributions_call_them() {
        assert_eq!(parse("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse("5.10.110-rockchip"), Some((5, 10)));
        assert_eq!(parse("6.12-rc1"), Some((6, 12)));
        assert_eq!(parse(""), None);
    }
}
