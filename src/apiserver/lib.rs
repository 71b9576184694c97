//! The Kubernetes API: HTTP, authentication, authorization, admission and the registry.
