//! The kernel by system call: mounts, namespaces, cgroups, pidfd.
