//! Hostile input: whatever comes from outside is answered or refused, and never breaks anything.
//!
//! Every test is an idea of what to send, tried for `FUZZ_SECONDS` (3 by default) from a seed that
//! is printed and can be set by `FUZZ_SEED`. An input that breaks something is kept below
//! `corpus/`; what is there is tried first, always.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod archives;
mod documents;
mod engine;
mod live;
mod patches;
mod seeds;
mod selectors;
#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests share it")]
mod support;
