//! `knarr version`.

use crate::version::KUBERNETES;

/// Prints the versions of Knarr and of the API that it serves.
pub(crate) fn run() -> Result<(), Box<dyn std::error::Error>> {
    println!("knarr v{} (Kubernetes {KUBERNETES})", env!("CARGO_PKG_VERSION"));
    Ok(())
}
