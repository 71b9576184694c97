//! The test bed: clusters in network namespaces, kubectl, and waiting for conditions.

mod cluster;
mod command;
mod images;
mod network;
mod wait;

pub use cluster::Cluster;
pub use command::run;
pub use wait::eventually;
