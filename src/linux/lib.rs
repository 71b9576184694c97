//! The kernel by system call: mounts, namespaces, cgroups, processes, signals.
//!
//! Safe wrappers over libc; but for waiting on a folder they need no async runtime. This crate and
//! `netlink` are the only ones with `unsafe` in them.

pub mod capability;
pub mod cgroup;
pub mod fd;
pub mod fs;
pub mod inotify;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod seccomp;
pub mod signal;
mod sys;
pub mod users;
