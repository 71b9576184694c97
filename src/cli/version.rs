//! `knarr version`.

/// The version of Kubernetes whose API this is.
pub(crate) const KUBERNETES: &str = "v1.37.2";

/// Prints the versions of Knarr and of the API that it serves.
pub(crate) fn run() -> Result<(), Box<dyn std::error::Error>> {
    println!("knarr v{} (Kubernetes {KUBERNETES})", env!("CARGO_PKG_VERSION"));
    Ok(())
}
