//! The listeners: connections of clients over TCP and TLS, watched for idleness, drained at the end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::activity::{Activity, HEAD, Verdict};
use crate::io::{Watched, configure};
use crate::proxy::Proxy;

/// How long a TLS handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an idle connection has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long accepting pauses when there are no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// Bytes of a request's head, or of what is buffered of a body.
const BUFFER: usize = 64 * 1024;
/// How HTTP/2 begins; no method of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Clear text: HTTP/1.1, or HTTP/2 if the client begins with it.
    Http,
    /// TLS, with HTTP/2 or HTTP/1.1 as the client prefers.
    Https,
}

/// A connection of a client, which ends when nothing holds this any longer.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    /// The port that the client has connected to.
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) activity: Arc<Activity>,
    _slot: Arc<OwnedSemaphorePermit>,
    _alive: mpsc::Sender<Infallible>,
}

/// Serves a listener until `stop` completes, then lets every request and tunnel under way end; who
/// cannot wait drops the future.
pub async fn serve(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    scheme: Scheme,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stopped) = watch::channel(false);
    let (alive, mut all_gone) = mpsc::channel(1);
    let mut stop = pin!(stop);
    let port = listener.local_addr().map_or(0, |address| address.port());
    loop {
        let accepted = tokio::select! {
            accepted = accept(&proxy, &listener) => accepted,
            () = &mut stop => break,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let connection = Accepted {
            proxy: proxy.clone(),
            peer,
            port,
            slot: Arc::new(slot),
            alive: alive.clone(),
            stopped: stopped.clone(),
        };
        tokio::spawn(async move {
            if let Err(error) = connection.serve(stream, scheme).await {
                tracing::debug!(%peer, %error, "client connection ended");
            }
        });
    }
    drop(listener);
    let _nobody = stopping.send(true);
    drop(alive);
    while all_gone.recv().await.is_some() {}
}

async fn accept(
    proxy: &Proxy,
    listener: &TcpListener,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The slot comes first: a client without one waits in the kernel and costs nothing here.
    let slot = proxy.slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(EXHAUSTED).await;
            None
        }
    }
}

/// Why a connection did not end well.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("tls handshake timed out")]
    Handshake,
    #[error("request head timed out")]
    Head,
}

struct Accepted {
    proxy: Arc<Proxy>,
    peer: SocketAddr,
    port: u16,
    slot: Arc<OwnedSemaphorePermit>,
    alive: mpsc::Sender<Infallible>,
    stopped: watch::Receiver<bool>,
}

impl Accepted {
    async fn serve(mut self, stream: TcpStream, scheme: Scheme) -> Result<(), Broken> {
        configure(&stream)?;
        match scheme {
            Scheme::Http => {
                let first = tokio::select! {
                    first = timeout(HEAD, begins_with_http2(&stream)) => first,
                    () = flagged(&mut self.stopped) => return Ok(()),
                };
                let http2 = first.map_err(|_| Broken::Head)??;
                self.serve_http(stream, http2, false).await
            }
            Scheme::Https => {
                let accepting = TlsAcceptor::from(self.proxy.tls()).accept(stream);
                let accepted = timeout(HANDSHAKE, accepting).await;
                let stream = accepted.map_err(|_| Broken::Handshake)??;
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.serve_http(stream, http2, true).await
            }
        }
    }

    async fn serve_http<S>(self, stream: S, http2: bool, tls: bool) -> Result<(), Broken>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Activity::new(http2);
        let stream = TokioIo::new(Watched::new(stream, activity.clone()));
        let client = Arc::new(Client {
            peer: self.peer,
            port: self.port,
            tls,
            activity: activity.clone(),
            _slot: self.slot,
            _alive: self.alive,
        });
        let proxy = self.proxy;
        let service = service_fn(move |request| {
            let (proxy, client) = (proxy.clone(), client.clone());
            async move { Ok::<_, Infallible>(proxy.handle(request, client).await) }
        });
        if http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(128)
                .max_header_list_size(BUFFER as u32)
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_send_buf_size(256 * 1024)
                .serve_connection(stream, service);
            watch_over(connection, activity, self.stopped).await
        } else {
            let connection = http1::Builder::new()
                .max_buf_size(BUFFER)
                // The watchdog knows an idle connection from one whose head does not end.
                .header_read_timeout(None)
                .serve_connection(stream, service)
                .with_upgrades();
            watch_over(connection, activity, self.stopped).await
        }
    }
}

/// Whether a client begins with the preface of HTTP/2. Nothing is taken from the stream.
async fn begins_with_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        let matches = first[..seen] == PREFACE[..seen];
        // Three bytes decide, for "PRI" is no method. Who sends fewer is waited for, and that with
        // a pause, because the stream stays readable.
        if seen == 0 || seen >= 3 || !matches {
            return Ok(matches && seen > 0);
        }
        if stream.ready(Interest::READABLE).await?.is_read_closed() {
            return Ok(false);
        }
        tokio::time::sleep(EXHAUSTED).await;
    }
}

/// A connection that can be asked to end after the requests under way.
trait Drain: Future<Output = hyper::Result<()>> {
    fn drain(self: Pin<&mut Self>);
}

impl<I, B, S> Drain for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S, E> Drain for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn watch_over(
    connection: impl Drain,
    activity: Arc<Activity>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Broken> {
    let mut connection = pin!(connection);
    let mut stopping = false;
    let mut check = pin!(sleep_until(Instant::now() + HEAD));
    loop {
        let verdict = tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = flagged(&mut stopped), if !stopping => {
                stopping = true;
                connection.as_mut().drain();
                continue;
            }
            () = check.as_mut() => activity.verdict(Instant::now()),
        };
        match verdict {
            Verdict::Fine(until) => check.as_mut().reset(until),
            Verdict::Stalled => return Err(Broken::Head),
            Verdict::Idle => {
                connection.as_mut().drain();
                // A peer that does not answer is not worth more time.
                return match timeout(GOODBYE, connection).await {
                    Ok(result) => Ok(result?),
                    Err(_) => Ok(()),
                };
            }
        }
    }
}

pub(crate) async fn flagged(flag: &mut watch::Receiver<bool>) {
    let _sender_gone = flag.wait_for(|flag| *flag).await;
}

/// How clients are served over TLS.
pub(crate) fn tls_config(certificates: Arc<dyn ResolvesServerCert>) -> rustls::ServerConfig {
    let provider = pki::ciphers::provider();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are kept by the clients, as tickets.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    match rustls::crypto::ring::Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        Err(error) => tracing::warn!(%error, "no session tickets"),
    }
    config
}
