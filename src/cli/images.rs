//! `knarr images`.

use std::{error::Error, path::PathBuf};

use clap::Subcommand;
use runtime::Runtime;

use crate::{agent, config::NodeDirectories};

/// What to do with the images of a node.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// List them
    List,
    /// Import them from OCI or docker archives
    Import {
        /// Archives: .tar, .tar.gz or .tar.zst
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Remove them by name
    Remove {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// Runs one of the actions.
pub(crate) fn run(action: Action, directories: &NodeDirectories) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Runtime::image_store(&agent::runtime_config(directories)).await?;
        match action {
            Action::List => {
                println!("{:<60} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
                for image in store.list() {
                    let id: String =
                        image.id.trim_start_matches("sha256:").chars().take(12).collect();
                    let size = format!("{:.1} MB", image.size as f64 / 1e6);
                    for name in &image.names {
                        println!("{name:<60} {id:<14} {size:>10}");
                    }
                }
            }
            Action::Import { archives } => {
                for archive in archives {
                    for name in store.import(&archive).await? {
                        println!("{name}");
                    }
                }
            }
            Action::Remove { images } => {
                for image in images {
                    let freed = store.remove(&image).await?;
                    println!("{image}: {:.1} MB freed", freed as f64 / 1e6);
                }
            }
        }
        Ok(())
    })
}
