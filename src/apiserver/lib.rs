//! The Kubernetes API: HTTP, authentication, authorization, admission and the registry.

pub mod admission;
pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod crd;
mod discovery;
mod health;
pub mod http;
pub mod kinds;
pub mod local;
mod metrics;
mod openapi;
pub mod registry;
pub mod request;
mod shared;
mod subresources;
mod table;
mod verbs;

pub use http::{
    listener::serve,
    tls::{Identity, server_config},
};
pub use shared::{Config, Shared, StartError};
