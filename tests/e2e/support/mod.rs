//! The test bed: clusters in network namespaces, kubectl, and waiting for conditions.

mod background;
mod cluster;
mod command;
pub mod images;
mod network;
mod reaper;
mod space;
mod wait;

pub use background::Background;
pub use cluster::{Cluster, Options};
pub use command::{Finished, run};
pub use network::Network;
pub use space::{LONG, Shared, Space};
pub use wait::eventually;
