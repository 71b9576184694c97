//! Scenarios on real clusters, by kubectl and HTTP. Each test is named by the claim that it proves
//! and has a cluster of its own, in network namespaces of its own, so they run side by side.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod api;
mod archives;
mod check;
mod durability;
mod faults;
mod restart;
#[allow(dead_code, reason = "the benchmarks share it")]
mod support;
mod workload;
