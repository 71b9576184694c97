//! `knarr server`.

use std::error::Error;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::{config::ServerOptions, server::Server};

/// The stack of each thread, in bytes.
const STACK: usize = 8 << 20;

/// Runs a server until it is told to stop.
pub(crate) fn run(options: ServerOptions) -> Result<(), Box<dyn Error>> {
    // A server at rest has little to do: more threads would only hold more memory.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // What clients send may be 500 levels deep. Of a stack, only what was used takes memory.
        .thread_stack_size(STACK)
        .worker_threads(threads)
        .thread_name("knarr")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let told = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::pin!(told);
        let server = tokio::select! {
            server = Server::start(&options) => server?,
            () = &mut told => return Ok(()),
        };
        told.await;
        info!("stopping; pods go on running");
        server.stop().await;
        Ok(())
    })
}
