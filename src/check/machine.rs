//! Limits, clock, swap and the name of the machine.

use apimachinery::names::dns1123_subdomain;

use crate::{config::ServerOptions, node};

use super::Finding;

/// Instances of inotify that a node with its programs may come to need; the kernel's default.
const INSTANCES: u64 = 512;
const WATCHES: u64 = 65_536;
/// Open files: each watch of a client and each stream of a pod is one.
const FILES: u64 = 65_536;
/// No certificate of this program is from before 2026, so no clock can be.
const FIRST_DAY: i64 = 1_767_225_600;

pub(super) fn node_name(options: &ServerOptions) -> Finding {
    let name = node::name(options);
    match dns1123_subdomain(&name).is_empty() {
        true => Finding::ok("node name", name),
        false => Finding::missing(
            "node name",
            format!("{name:?} cannot be the name of a node"),
            "choose one of a-z, 0-9, - and . with --node-name",
        ),
    }
}

pub(super) fn limits() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut low = Vec::new();
    for (name, wanted) in
        [("fs.inotify.max_user_instances", INSTANCES), ("fs.inotify.max_user_watches", WATCHES)]
    {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let now = std::fs::read_to_string(path).ok().and_then(|now| now.trim().parse().ok());
        if let Some(now) = now.filter(|now: &u64| *now < wanted) {
            low.push((format!("{name} is {now}"), format!("{name}={wanted}")));
        }
    }
    findings.push(match low.is_empty() {
        true => Finding::ok("inotify", "enough instances and watches"),
        false => {
            let (found, wanted): (Vec<_>, Vec<_>) = low.into_iter().unzip();
            Finding::warning(
                "inotify",
                format!("{}: pods that follow files may fail", found.join(", ")),
                format!("sysctl -w {}, and into /etc/sysctl.d", wanted.join(" ")),
            )
        }
    });
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    findings.push(match open_files(&limits) {
        Some(most) if most < FILES => Finding::warning(
            "open files",
            format!("{most} at most"),
            "in the unit LimitNOFILE=1048576, in a shell ulimit -Hn 1048576",
        ),
        Some(u64::MAX) => Finding::ok("open files", "unlimited"),
        Some(most) => Finding::ok("open files", format!("{most} at most")),
        None => Finding::warning("open files", "limit not known", "is /proc mounted?"),
    });
    findings
}

/// The hard limit in `/proc/self/limits`.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

pub(super) fn clock() -> Finding {
    let (now, _) = linux::process::now();
    if now < FIRST_DAY {
        return Finding::missing(
            "clock",
            "it is in the past: certificates made now would be refused later",
            "set it (date -s), and have it set at boot (NTP)",
        );
    }
    match linux::process::clock_synchronized() {
        true => Finding::ok("clock", "synchronized"),
        false => Finding::warning(
            "clock",
            "nobody says that it is right",
            "run systemd-timesyncd, chrony or ntpd, unless the machine's host sees to it",
        ),
    }
}

pub(super) fn swap() -> Finding {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let devices: Vec<&str> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    match devices.as_slice() {
        [] => Finding::ok("swap", "off"),
        devices => Finding::warning(
            "swap",
            format!("on ({}): memory limits do not count what is swapped out", devices.join(", ")),
            "swapoff -a and out of /etc/fstab, unless that is wanted",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_of_open_files_counts() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(text), Some(524_288));
        assert_eq!(open_files(&text.replace("524288", "unlimited")), Some(u64::MAX));
    }
}
