//! The command line: one file a subcommand.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{self, NodeDirectories, ServerOptions};

mod check;
mod cleanup;
mod images;
mod logging;
mod server;
mod version;

/// Kubernetes in one static binary.
#[derive(Parser)]
#[command(name = "knarr", disable_version_flag = true, args_override_self = true)]
struct Cli {
    /// Configuration file
    #[arg(long, global = true, env = "KNARR_CONFIG", default_value = config::DEFAULT_FILE)]
    config: std::path::PathBuf,
    #[command(flatten)]
    log: logging::LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster on this machine
    Server(Box<ServerOptions>),
    /// Say what the kernel and this machine lack for a server, and what to do about it
    Check(Box<check::CheckOptions>),
    /// Serve Ingress and cluster DNS; started by the agent
    #[command(hide = true)]
    Edge {
        /// User that the process becomes
        #[arg(long)]
        user: Option<u32>,
    },
    /// List, import and remove the images of this node
    Images {
        #[command(subcommand)]
        action: images::Action,
        #[command(flatten)]
        directories: NodeDirectories,
    },
    /// Stop every pod and remove everything that this node left on the machine
    Cleanup(cleanup::CleanupOptions),
    /// Print the version
    Version,
}

/// Parses the command line and runs what it asks for.
pub(crate) fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let arguments = match arguments.get(1).and_then(|name| name.to_str()) {
        Some(command @ ("server" | "check" | "images" | "cleanup")) => {
            let command = command.to_owned();
            match config::with_file::<Cli>(&command, arguments) {
                Ok(arguments) => arguments,
                Err(error) => return fail(&error),
            }
        }
        _ => arguments,
    };
    let cli = Cli::parse_from(arguments);
    logging::start(&cli.log);
    let outcome = match cli.command {
        Command::Check(options) => match check::run(&options) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Server(options) => server::run(*options),
        Command::Edge { user } => crate::edge::run(user).map_err(Into::into),
        Command::Images { action, directories } => images::run(action, &directories),
        Command::Cleanup(options) => cleanup::run(&options),
        Command::Version => version::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

/// Says in one line why a command failed: the error and what caused it.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut line = format!("knarr: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}
