//! `knarr check`.

use std::{error::Error, process::ExitCode};

use clap::Args;

use crate::{
    check::{self, Level},
    config::ServerOptions,
};

/// What to check for.
#[derive(Args)]
pub(crate) struct CheckOptions {
    /// Write what was found as JSON
    #[arg(long)]
    json: bool,
    /// The server that is going to run here
    #[command(flatten)]
    server: ServerOptions,
}

/// Says what the machine lacks, a line each; fails if a server could not run.
pub(crate) fn run(options: &CheckOptions) -> Result<ExitCode, Box<dyn Error>> {
    let findings = check::all(&options.server);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
    }
    let missing = findings.iter().any(|finding| finding.level == Level::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
