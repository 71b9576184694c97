//! The pods of this node: one worker a pod, driven by what happens to it.

mod actions;
pub(crate) mod admission;
mod backoff;
mod containers;
mod hooks;
mod kill;
pub(crate) mod log_files;
mod mailbox;
mod observe;
pub(crate) mod registry;
mod resize;
mod sandbox;
mod set_up;
mod termination_message;
pub(crate) mod view;
mod worker;
mod write;
