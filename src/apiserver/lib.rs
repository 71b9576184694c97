//! The Kubernetes API: HTTP, authentication, authorization, admission and the registry.

pub mod admission;
pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod kinds;
pub mod request;

/// State shared by all requests.
pub struct Shared {}
