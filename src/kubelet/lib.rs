//! Runs the pods of one node and reports on them.
//!
//! [`Kubelet::start`] registers the node and gives each pod that is bound to it a worker, which
//! reconciles what the API server wants with what the [`runtime`] runs. Everything is driven by
//! events; an idle node wakes up once in ten seconds to renew its lease.

mod api;
mod config;
mod dns;
mod env;
mod hosts;
mod images;
mod kubelet;
mod network;
mod node;
mod objects;
mod pods;
mod podspec;
mod probes;
mod requests;
mod resources;
mod security;
mod shared;
mod status;
mod volumes;

pub use config::{Eviction, KubeletConfig, ServingIdentity};
pub use kubelet::{Dependencies, Kubelet, StartError};
pub use network::{HostPort, NetworkError, PodAttachment, PodNetwork};
pub use pods::log_files::remove_all as remove_all_logs;
