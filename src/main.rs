//! Knarr: Kubernetes in one static binary. Parses the command line and hands over.

use std::process::ExitCode;

mod agent;
mod cli;
mod config;
mod lock;
mod ports;
mod server;
mod systemd;
mod tls;

fn main() -> ExitCode {
    cli::run()
}
