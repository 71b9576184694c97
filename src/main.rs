//! Knarr: Kubernetes in one static binary.

fn main() {}
