//! The port: connections are accepted, TLS is shaken, HTTP/1.1 and HTTP/2 are spoken.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    Shared,
    authentication::Peer,
    http::{body::Response, router},
};

/// A handshake must be done after this long.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The head of an HTTP/1.1 request must be there after this long.
const HEADERS: Duration = Duration::from_secs(32);
/// The largest head of a request.
const HEAD_LIMIT: u32 = 1 << 20;
/// How long connections may take to finish their requests when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// Serves the API on `listener` until `stop`: then no connection is accepted any more, watches end,
/// and requests under way are finished.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    server: Arc<Shared>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (server, acceptor, stop) = (server.clone(), acceptor.clone(), stop.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(server, stream, acceptor, stop).await {
                        debug!(%address, %error, "connection ended");
                    }
                });
            }
            // Out of file descriptors, or the peer was gone already: others may still come.
            Err(error) => {
                warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        debug!(left = connections.len(), "connections did not end in time");
    }
    Ok(())
}

async fn connection(
    server: Arc<Shared>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let (_, session) = stream.get_ref();
    let chain: &[CertificateDer<'_>] = session.peer_certificates().unwrap_or_default();
    let peer = if chain.is_empty() { Peer::None } else { server.authenticator.peer(chain) };
    let h2 = session.alpn_protocol() == Some(b"h2");
    let peer = Arc::new(peer);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<Response, Infallible>(router::serve(&server, &peer, request).await) }
    });
    let stream = TokioIo::new(stream);
    if h2 {
        let mut connection = std::pin::pin!(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(1000)
                .max_header_list_size(HEAD_LIMIT)
                // Bodies are at most 3 MB and most far smaller: this saves memory per connection.
                .initial_stream_window_size(256 << 10)
                .initial_connection_window_size(1 << 20)
                .max_send_buf_size(256 << 10)
                .keep_alive_interval(Some(Duration::from_secs(30)))
                .keep_alive_timeout(Duration::from_secs(15))
                .serve_connection(stream, service)
        );
        tokio::select! {
            result = connection.as_mut() => result?,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await?;
            }
        }
    } else {
        let mut connection = std::pin::pin!(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(HEAD_LIMIT as usize)
                .serve_connection(stream, service)
                .with_upgrades()
        );
        tokio::select! {
            result = connection.as_mut() => result?,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await?;
            }
        }
    }
    Ok(())
}
