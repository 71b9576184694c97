//! One address of a backend and the connections to it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::body::RequestBody;
use crate::io::{SharedStream, configure};
use crate::model::AppProtocol;

/// How long a connection may take until it can be used.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an unused connection is kept: less than most servers keep theirs.
const IDLE: Duration = Duration::from_secs(30);
/// Unused connections that are kept to one endpoint.
const MAX_IDLE: usize = 32;
/// For how long an endpoint that refused a connection is asked last.
const AVOID: Duration = Duration::from_secs(1);
/// Bytes of a response's head, or of what is buffered of a body.
const BUFFER: usize = 64 * 1024;

/// Why an endpoint could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("connecting took longer than {} s", CONNECT.as_secs())]
    Timeout,
}

/// An address that requests are sent to.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    protocol: AppProtocol,
    requests: AtomicUsize,
    connections: Mutex<Connections>,
    /// Held while the connection is made that all HTTP/2 requests share.
    dialing: tokio::sync::Mutex<()>,
    retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Connections {
    idle: Vec<(Instant, Http1)>,
    shared: Option<http2::SendRequest<RequestBody>>,
    sweeping: bool,
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    stream: SharedStream,
}

/// A connection for one request.
#[derive(Debug)]
pub(crate) struct Connection {
    kind: Kind,
    /// Whether it has been used before, and so may be closed just now.
    pub(crate) reused: bool,
}

#[derive(Debug)]
enum Kind {
    Http1(Http1),
    Http2(http2::SendRequest<RequestBody>),
}

/// A request that is being served by an endpoint.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Endpoint>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) error: hyper::Error,
    /// The request, if nothing of it has left this process.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, protocol: AppProtocol) -> Arc<Self> {
        Arc::new(Self {
            address,
            protocol,
            requests: AtomicUsize::new(0),
            connections: Mutex::default(),
            dialing: tokio::sync::Mutex::new(()),
            retired: AtomicBool::new(false),
        })
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that are being served.
    pub(crate) fn load(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts a request for as long as the guard lives.
    pub(crate) fn begin(self: &Arc<Self>) -> InUse {
        self.requests.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }

    /// Whether it refused a connection just now.
    pub(crate) fn is_avoided(&self) -> bool {
        self.connections().refused.is_some_and(|since| since.elapsed() < AVOID)
    }

    /// No new request comes here: unused connections are closed, those in use end with their
    /// request.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        let mut connections = self.connections();
        connections.idle.clear();
        connections.shared = None;
    }

    /// A connection: one that has been used before, or a new one.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        upgrade: bool,
    ) -> Result<Connection, ConnectError> {
        if let Some(kind) = self.unused(upgrade) {
            return Ok(Connection { kind, reused: true });
        }
        // Requests that come together share one connection where the protocol allows it.
        let _dialing = match self.protocol {
            AppProtocol::H2c if !upgrade => Some(self.dialing.lock().await),
            _ => None,
        };
        if let Some(kind) = self.unused(upgrade) {
            return Ok(Connection { kind, reused: true });
        }
        let dialed = timeout(CONNECT, self.dial(upgrade)).await;
        let dialed = dialed.unwrap_or(Err(ConnectError::Timeout));
        self.connections().refused = dialed.is_err().then(Instant::now);
        let kind = dialed?;
        if let Kind::Http2(sender) = &kind
            && !self.retired.load(Ordering::Relaxed)
        {
            self.connections().shared = Some(sender.clone());
        }
        Ok(Connection { kind, reused: false })
    }

    fn unused(&self, upgrade: bool) -> Option<Kind> {
        let mut connections = self.connections();
        if !upgrade {
            match &connections.shared {
                Some(sender) if !sender.is_closed() => return Some(Kind::Http2(sender.clone())),
                _ => connections.shared = None,
            }
        }
        while let Some((since, connection)) = connections.idle.pop() {
            if since.elapsed() < IDLE
                && connection.sender.is_ready()
                && connection.stream.is_quiet()
            {
                return Some(Kind::Http1(connection));
            }
        }
        None
    }

    async fn dial(&self, upgrade: bool) -> Result<Kind, ConnectError> {
        let stream = TcpStream::connect(self.address).await?;
        configure(&stream)?;
        let stream = SharedStream::new(stream);
        match self.protocol {
            AppProtocol::Http => http1(stream.clone(), stream).await,
            // An upgrade is a matter of HTTP/1.1 even where all else is HTTP/2.
            AppProtocol::H2c if upgrade => http1(stream.clone(), stream).await,
            AppProtocol::H2c => http2(stream).await,
            AppProtocol::Https => {
                let name = ServerName::IpAddress(self.address.ip().into());
                let config = if upgrade { tls_http1() } else { tls() };
                let secured = TlsConnector::from(config).connect(name, stream.clone()).await?;
                match secured.get_ref().1.alpn_protocol() {
                    Some(b"h2") => http2(secured).await,
                    _ => http1(stream, secured).await,
                }
            }
        }
    }

    /// Keeps a connection for the next request.
    fn put_back(self: &Arc<Self>, connection: Http1) {
        if self.retired.load(Ordering::Relaxed) {
            return;
        }
        let mut connections = self.connections();
        if connections.idle.len() == MAX_IDLE {
            connections.idle.remove(0);
        }
        connections.idle.push((Instant::now(), connection));
        if !connections.sweeping {
            connections.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Closes connections that nobody uses, and ends when there are none.
async fn sweep(endpoint: std::sync::Weak<Endpoint>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        let mut connections = endpoint.connections();
        connections
            .idle
            .retain(|(since, connection)| since.elapsed() < IDLE && !connection.sender.is_closed());
        if connections.idle.is_empty() {
            connections.sweeping = false;
            return;
        }
    }
}

async fn http1<S>(stream: SharedStream, io: S) -> Result<Kind, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(io)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "backend connection ended");
        }
    });
    Ok(Kind::Http1(Http1 { sender, stream }))
}

async fn http2<S>(io: S) -> Result<Kind, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_header_list_size(BUFFER as u32)
        .handshake(TokioIo::new(io))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "backend connection ended");
        }
    });
    Ok(Kind::Http2(sender))
}

impl Connection {
    /// Whether requests have to be written as HTTP/2 knows them.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.kind, Kind::Http2(_))
    }

    /// Sends a request and waits for the head of the response. The connection goes back to the
    /// endpoint when the response is complete.
    pub(crate) async fn send(
        self,
        endpoint: &Arc<Endpoint>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let result = match self.kind {
            Kind::Http2(mut sender) => sender.try_send_request(request).await,
            Kind::Http1(mut connection) => {
                let result = connection.sender.try_send_request(request).await;
                let switched = http::StatusCode::SWITCHING_PROTOCOLS;
                if result.as_ref().is_ok_and(|response| response.status() != switched) {
                    let endpoint = endpoint.clone();
                    tokio::spawn(async move {
                        if connection.sender.ready().await.is_ok() {
                            endpoint.put_back(connection);
                        }
                    });
                }
                result
            }
        };
        result.map_err(|mut error| {
            let unsent = error.take_message();
            SendError { unsent, error: error.into_error() }
        })
    }
}

fn tls() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| Arc::new(tls_config(&[b"h2", b"http/1.1"]))).clone()
}

fn tls_http1() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| Arc::new(tls_config(&[b"http/1.1"]))).clone()
}

/// Every certificate of a backend is taken; see [`AppProtocol::Https`].
fn tls_config(protocols: &[&[u8]]) -> rustls::ClientConfig {
    let mut config = pki::trust::any_server();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}
