//! The kubelet's own API: logs, exec, attach and port-forward for the API server, figures for
//! whoever measures.

mod auth;
mod exec;
pub(crate) mod logs;
mod port_forward;
mod server;
mod spdy;
mod stats;
mod websocket;

pub(crate) use server::Server;
