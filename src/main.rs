//! Knarr: Kubernetes in one static binary. Parses the command line and hands over.

use std::process::ExitCode;

mod addons;
mod agent;
mod check;
mod cli;
mod config;
mod edge;
mod lock;
mod node;
mod ports;
mod server;
mod systemd;
mod tls;
mod version;

fn main() -> ExitCode {
    // The processes inside of pods come first: they run before anything has made a thread, and as
    // small as can be.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|name| name.to_str()) {
        Some("shim") => runtime::shim::main(arguments),
        Some("init") => runtime::init::main(arguments),
        _ => cli::run(),
    }
}
