//! The HTTP edge of a node: Ingress rules, their certificates and the endpoints behind them,
//! followed live.
//!
//! The proxy runs in the edge process, which has no connection to the API: [`feed`] runs in the
//! agent and turns Ingresses, Services, EndpointSlices and Secrets into the [`Update`]s that a
//! [`Proxy`] takes. [`serve`] runs one listener of it.

mod activity;
mod backend;
mod body;
mod certificates;
mod endpoint;
pub mod feed;
mod forwarded;
mod io;
mod model;
mod path;
mod proxy;
mod router;
mod server;
#[cfg(test)]
mod server_tests;
pub mod status;
mod tunnel;

pub use model::{
    AppProtocol, Backend, Certificate, Config, Ingress, Path, PathKind, PortRef, Rule, Service,
    ServicePort, Tls, Update,
};
pub use proxy::Proxy;
pub use server::{Scheme, serve};
