//! What the kernel and the machine lack for a cluster, found by trying rather than by asking for
//! versions: `knarr check` says all of it, `knarr server` what it cannot start without.

mod cgroups;
mod data;
mod kernel;
mod machine;
mod network;

use std::fmt;

use serde::Serialize;

use crate::config::ServerOptions;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Something will not work as well as it could, or not at all that not everybody needs.
    Warning,
    /// Nothing works without it.
    Missing,
}

/// One line about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: a word or two.
    pub item: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    fn ok(item: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, item, found: found.into(), advice: String::new() }
    }

    fn warning(item: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warning, item, found: found.into(), advice: advice.into() }
    }

    fn missing(item: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Missing, item, found: found.into(), advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Missing => "MISSING",
        };
        write!(f, "{level:<8} {:<18} {}", self.item, self.found)?;
        match self.advice.as_str() {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

/// Everything worth knowing about this machine. Blocking.
pub(crate) fn all(options: &ServerOptions) -> Vec<Finding> {
    let mut findings = vec![kernel::version()];
    if !options.disable_agent {
        let node = node(options);
        // Without privileges not much can be said.
        if node.len() > 1 {
            findings.push(kernel::resource_limits());
            findings.extend(kernel::optional_namespaces());
            findings.push(cgroups::optional(&options.directories.cgroup_root));
            findings.push(kernel::vxlan());
            findings.extend(network::firewalls(options));
        }
        findings.splice(1..1, node);
    }
    findings.extend(data::directory(&options.directories.data_dir));
    findings.extend(network::ports(options));
    findings.push(network::address(options));
    findings.push(machine::node_name(options));
    findings.extend(machine::limits());
    findings.push(machine::clock());
    if !options.disable_agent {
        findings.push(machine::swap());
    }
    findings
}

/// What keeps a node with these options from working at all. Blocking, some ten milliseconds.
pub(crate) fn essentials(options: &ServerOptions) -> Vec<Finding> {
    let mut findings = vec![kernel::version(), machine::node_name(options)];
    findings.extend(node(options));
    findings.extend(data::overlay(&options.directories.data_dir));
    findings.retain(|finding| finding.level == Level::Missing);
    findings
}

/// What keeps pods of a running node from being reached. Blocking.
pub(crate) fn obstacles(options: &ServerOptions) -> Vec<Finding> {
    let mut findings = network::firewalls(options);
    findings.retain(|finding| finding.level != Level::Ok);
    findings
}

/// What every node needs of its kernel.
fn node(options: &ServerOptions) -> Vec<Finding> {
    let mut findings = vec![kernel::privileges()];
    // Without them nothing below can be tried.
    if findings[0].level == Level::Missing {
        return findings;
    }
    findings.push(kernel::namespaces());
    findings.push(cgroups::controllers(&options.directories.cgroup_root));
    findings.push(kernel::seccomp());
    findings.extend(network::kernel(options));
    findings.push(network::forwarding());
    findings
}
