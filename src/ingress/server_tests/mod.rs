//! Real sockets on the loopback: clients, this proxy, and backends made for the test.

mod bodies;
mod hostile;
mod protocols;
mod resilience;
mod routing;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::activity::{HEAD, IDLE};
use crate::body::STALL;
use crate::model::{
    AppProtocol, Backend, Certificate, Config, Ingress, Path, PathKind, PortRef, Rule, Service,
    ServicePort, Tls, Update,
};
use crate::server::{HANDSHAKE, flagged};
use crate::{Proxy, Scheme, serve};

type Body = BoxBody<Bytes, hyper::Error>;

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// The proxy with a listener of each kind.
struct Edge {
    proxy: Arc<Proxy>,
    http: SocketAddr,
    https: SocketAddr,
    stop: Vec<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<()>>,
}

async fn edge_with(config: Config) -> Edge {
    let proxy = Proxy::new(config);
    let mut edge = Edge {
        proxy: proxy.clone(),
        http: "0.0.0.0:0".parse().unwrap(),
        https: "0.0.0.0:0".parse().unwrap(),
        stop: vec![],
        tasks: vec![],
    };
    for scheme in [Scheme::Http, Scheme::Https] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        match scheme {
            Scheme::Http => edge.http = address,
            Scheme::Https => edge.https = address,
        }
        let (stop, stopped) = oneshot::channel::<()>();
        edge.stop.push(stop);
        let serving = serve(proxy.clone(), listener, scheme, async {
            let _ = stopped.await;
        });
        edge.tasks.push(tokio::spawn(serving));
    }
    edge
}

async fn edge() -> Edge {
    edge_with(Config::default()).await
}

impl Edge {
    /// One rule: a host and a prefix lead to a service at port 80.
    fn rule(&self, host: &str, path: &str, service: &str) {
        let backend = Backend { service: service.into(), port: PortRef::Number(80) };
        let path = Path { path: path.into(), kind: PathKind::Prefix, backend };
        self.proxy.apply(Update::Ingress(Ingress {
            namespace: "ns".into(),
            name: format!("{host}{path:?}"),
            rules: vec![Rule { host: host.into(), paths: vec![path] }],
            ..Ingress::default()
        }));
    }

    fn endpoints(&self, service: &str, protocol: AppProtocol, endpoints: &[SocketAddr]) {
        let port =
            ServicePort { name: String::new(), port: 80, protocol, endpoints: endpoints.into() };
        let (namespace, name) = ("ns".into(), service.into());
        self.proxy.apply(Update::Service(Service { namespace, name, ports: vec![port] }));
    }

    /// A rule for everything, and its endpoints.
    fn all_to(&self, protocol: AppProtocol, endpoints: &[SocketAddr]) {
        self.rule("", "/", "web");
        self.endpoints("web", protocol, endpoints);
    }

    async fn get(&self, host: &str, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", host).body(empty()).unwrap();
        let response = h1(self.http).await.send(request).await;
        let status = response.status();
        (status, text(response).await)
    }
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A client with one connection.
enum Http {
    One(hyper::client::conn::http1::SendRequest<Body>),
    Two(hyper::client::conn::http2::SendRequest<Body>),
}

impl Http {
    async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.try_send(request).await.unwrap()
    }

    async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Two(sender) => sender.send_request(request).await,
        }
    }
}

async fn h1_over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Http {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    Http::One(sender)
}

async fn h2_over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Http {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    Http::Two(sender)
}

async fn h1(address: SocketAddr) -> Http {
    h1_over(TcpStream::connect(address).await.unwrap()).await
}

/// Connects over TLS and says which certificate it got.
async fn tls(
    address: SocketAddr,
    host: &str,
    alpn: &[u8],
) -> (tokio_rustls::client::TlsStream<TcpStream>, Vec<u8>) {
    let mut config = pki::trust::any_server();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (stream, certificate)
}

fn certificate(name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
    Certificate {
        namespace: "ns".into(),
        name: name.into(),
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

/// A backend that answers with a function.
struct Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Origin {
    /// Ends it as a killed process ends: the listener and all connections at once.
    fn kill(&self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Http1,
    Http2,
    Tls(&'static [u8]),
}

async fn origin<F, R>(speaks: Speaks, answer: F) -> Origin
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, counted) = (connections.clone(), requests.clone());
    let task = tokio::spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            let (answer, counted) = (answer.clone(), counted.clone());
            serving.spawn(async move {
                let service = service_fn(move |request| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                let one = http1::Builder::new();
                let two = http2::Builder::new(TokioExecutor::new());
                let _ended = match speaks {
                    Speaks::Http1 => {
                        one.serve_connection(TokioIo::new(stream), service).with_upgrades().await
                    }
                    Speaks::Http2 => two.serve_connection(TokioIo::new(stream), service).await,
                    Speaks::Tls(alpn) => {
                        let stream = accept_tls(stream, alpn).await;
                        if alpn == b"h2" {
                            two.serve_connection(TokioIo::new(stream), service).await
                        } else {
                            one.serve_connection(TokioIo::new(stream), service).await
                        }
                    }
                };
            });
        }
    });
    Origin { address, connections, requests, task }
}

async fn accept_tls(stream: TcpStream, alpn: &[u8]) -> tokio_rustls::server::TlsStream<TcpStream> {
    let made = certificate("backend");
    let chain = vec![CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap()
}

/// Answers with a name and the path.
async fn named(name: &'static str) -> Origin {
    origin(Speaks::Http1, move |request| async move {
        Response::new(full(format!("{name} {}", request.uri())))
    })
    .await
}

/// Answers with the request as it came.
async fn mirror(speaks: Speaks) -> Origin {
    origin(speaks, |request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
        for (name, value) in &parts.headers {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
        Response::new(full(text))
    })
    .await
}
