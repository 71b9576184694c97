//! The kernel by system call: mounts, namespaces, cgroups, processes, signals.
//!
//! Safe wrappers over libc, without an async runtime. This crate and `netlink` are the only ones
//! with `unsafe` in them.

pub mod cgroup;
pub mod signal;
