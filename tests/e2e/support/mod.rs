//! The test bed: clusters in network namespaces, kubectl, and waiting for conditions.

mod cluster;
mod command;
mod images;
mod network;
mod wait;

pub use cluster::{Cluster, Options};
pub use command::{Finished, run};
pub use wait::eventually;
