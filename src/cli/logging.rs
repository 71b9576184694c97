//! Logs: to stderr, a line an event, JSON on request.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Args)]
pub(crate) struct LogOptions {
    /// What to log: error, warn, info, debug, trace, or by part (`kubelet=debug,info`)
    #[arg(long, global = true, env = "KNARR_LOG", default_value = "info")]
    log: String,
    /// How to write it
    #[arg(long, global = true, env = "KNARR_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Starts logging for the whole process.
pub(crate) fn start(options: &LogOptions) {
    let filter = EnvFilter::try_new(&options.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        Format::Text => builder.with_ansi(false).init(),
        Format::Json => builder.json().init(),
    }
}
