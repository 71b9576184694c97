//! Measures every figure of SPECIFICATION.md on clusters that it starts, and, where another cluster
//! is named, the same figures of that one in the same run with the same client.
//!
//! Environment: `KNARR`, the program to measure; `ONLY`, names of parts, separated by commas;
//! `BESIDE`, the kubeconfig of another cluster; `BESIDE_PIDS`, its processes on this machine;
//! `BESIDE_IMAGE`, an image with a shell that its node has, without which it runs no pods;
//! `REPORT`, a file that the table is written to.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "it fails by panicking where it cannot measure"
)]

mod api;
mod http;
mod idle;
mod knarr;
mod kubeconfig;
mod lists;
mod load;
mod pods;
mod report;
mod services;
mod size;
mod start;
#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests share it")]
mod support;
mod target;
mod usage;
mod watch;

use std::{panic::AssertUnwindSafe, process::ExitCode};

use report::Row;
use target::Target;

/// Measures something of Knarr and, where there is one, of another cluster.
type Part = fn(Option<&Target>) -> Vec<Row>;

/// What `ONLY` chooses from.
const PARTS: &[(&str, Part)] = &[
    ("size", size::measure),
    ("start", start::measure),
    ("idle", idle::measure),
    ("pods", pods::measure),
    ("api", api::measure),
    ("lists", lists::measure),
    ("services", services::measure),
];

fn main() -> ExitCode {
    let only = variable("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split([',', ' ']).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = only.iter().find(|name| PARTS.iter().all(|(part, _)| part != *name)) {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no part {unknown:?}; there are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let beside = beside();
    let machine = machine();
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (name, measure) in PARTS {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        eprintln!("{name}");
        // One part that cannot be measured does not take the others' figures away.
        match std::panic::catch_unwind(AssertUnwindSafe(|| measure(beside.as_ref()))) {
            Ok(more) => {
                eprint!("{}", report::table(&more));
                rows.extend(more);
            }
            Err(_) => failed.push(*name),
        }
    }
    let table = format!("{}\n{machine}\n", report::table(&rows));
    println!("{table}");
    if let Some(path) = variable("REPORT") {
        std::fs::write(&path, &table).unwrap();
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("could not be measured: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// What the figures hang on beside the programs: others that work on the machine make them worse.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} cores, Linux {}, load average before: {load}", kernel.trim())
}

/// The other cluster, if one is named.
fn beside() -> Option<Target> {
    let endpoint = kubeconfig::read(variable("BESIDE")?.as_ref()).unwrap();
    let pids = variable("BESIDE_PIDS").unwrap_or_default();
    Some(Target {
        endpoint,
        namespace: None,
        pids: pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect(),
        image: variable("BESIDE_IMAGE"),
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
