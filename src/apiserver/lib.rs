//! The Kubernetes API: HTTP, authentication, authorization, admission and the registry.

pub mod admission;
pub mod aggregator;
pub mod allocators;
pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod crd;
pub mod discovery;
mod expressions;
pub mod health;
pub mod http;
pub mod kinds;
pub mod local;
pub mod metrics;
pub mod openapi;
pub mod proxy;
pub mod registry;
pub mod request;
pub mod shared;
pub mod subresources;
pub mod table;
pub mod verbs;
pub mod webhook;

pub use self::http::{
    client::ClientIdentity,
    listener::serve,
    tls::{Identity, server_config},
};
pub use shared::{Config, Shared, StartError};
