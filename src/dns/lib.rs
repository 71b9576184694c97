//! Cluster DNS: authoritative for the cluster domain and the reverse zones of its addresses, and a
//! caching forwarder for everything else.
//!
//! The names follow the Kubernetes DNS specification 1.1.0
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>). The server runs in the
//! edge process, which has no connection to the API: [`feed`] runs in the agent and turns Services
//! and EndpointSlices into the [`Update`]s that a [`Resolver`] takes.

mod cache;
pub mod feed;
mod forward;
mod model;
mod resolv_conf;
mod resolver;
mod server;
mod store;
mod wire;
mod zone;

pub use model::{Addresses, Config, Endpoint, Port, Protocol, Record, Subset, Update};
pub use resolver::Resolver;
pub use server::{serve_tcp, serve_udp};
