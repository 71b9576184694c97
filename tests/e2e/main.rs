//! Scenarios on real clusters, by kubectl and HTTP. Each test is named by the claim that it proves.
//! The scenarios of a file share a cluster and have a namespace each, unless what they do to the
//! server or to the node would disturb the others; every cluster is a machine of its own, made of
//! network namespaces, so they run side by side.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod access;
mod admission;
mod api;
mod archives;
mod check;
mod configuration;
mod deletion;
mod dns;
mod durability;
mod faults;
mod helm;
mod ingress;
mod installer;
mod jobs;
mod kubectl;
mod lifecycle;
mod outside;
mod probes;
mod reading;
mod registry;
mod restart;
mod scale;
mod scheduling;
mod services;
mod sessions;
#[allow(dead_code, unused_imports, reason = "the benchmarks share it")]
mod support;
mod workload;
