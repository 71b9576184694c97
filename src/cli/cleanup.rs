//! `knarr cleanup`: leaves nothing of a node behind on the machine but, unless asked, its data.

use std::error::Error;

use clap::Args;
use runtime::Runtime;

use crate::{agent, config::NodeDirectories, edge, lock::DataLock};

/// What to clean up.
#[derive(Args)]
pub(crate) struct CleanupOptions {
    #[command(flatten)]
    directories: NodeDirectories,
    /// Remove the data too: objects, certificates, images, volumes, logs
    #[arg(long)]
    all: bool,
}

/// Stops every pod and removes processes, mounts, interfaces, routes, tables and cgroups.
pub(crate) fn run(options: &CleanupOptions) -> Result<(), Box<dyn Error>> {
    let data = &options.directories.data_dir;
    // Not beside a running server, which would start the pods again.
    let _lock = match data.exists() {
        true => Some(DataLock::take(data)?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        edge::supervisor::end(&options.directories.run_dir).await;
        Runtime::cleanup(&agent::runtime_config(&options.directories), options.all).await
    })?;
    unmount_below(data)?;
    network::cleanup()?;
    if options.all {
        kubelet::remove_all_logs(&options.directories.pod_logs_dir)?;
        if data.exists() {
            std::fs::remove_dir_all(data)?;
        }
    }
    Ok(())
}

/// Unmounts what is mounted below the data directory, the volumes of pods, innermost first.
fn unmount_below(data: &std::path::Path) -> std::io::Result<()> {
    let mounts = linux::procfs::mounts()?;
    for mount in mounts.iter().rev().filter(|mount| mount.mount_point.starts_with(data)) {
        linux::mount::unmount(&mount.mount_point)?;
    }
    Ok(())
}
