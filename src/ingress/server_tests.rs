//! Real sockets on the loopback: clients, this proxy, and backends made for the test.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant as StdInstant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::model::{
    AppProtocol, Backend, Certificate, Config, Ingress, Path, PathKind, PortRef, Rule, Service,
    ServicePort, Tls, Update,
};

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
    #[derive(Debug)]
    struct Any;
    impl rustls::client::danger::ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls_pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::ring::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
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

#[tokio::test]
async fn requests_go_where_the_rules_say() {
    let edge = edge().await;
    let (a, b) = (named("a").await, named("b").await);
    edge.rule("a.example", "/", "a");
    edge.rule("a.example", "/b", "b");
    edge.endpoints("a", AppProtocol::Http, &[a.address]);
    edge.endpoints("b", AppProtocol::Http, &[b.address]);
    let ok = |text: &str| (StatusCode::OK, text.to_owned());
    assert_eq!(edge.get("a.example", "/x?y=1").await, ok("a /x?y=1"));
    assert_eq!(edge.get("A.Example:80", "/b/c").await, ok("b /b/c"));
    assert_eq!(edge.get("a.example", "/bc").await, ok("a /bc"));
    // What the rules compare is what the backend gets.
    assert_eq!(edge.get("a.example", "/b/../x?y").await, ok("a /x?y"));
    assert_eq!(edge.get("a.example", "/x/%2e%2e/b").await, ok("b /b"));
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let edge = edge().await;
    let (status, text) = edge.get("a.example", "/x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(text, "no Ingress rule matches host \"a.example\" and path \"/x\"\n");

    edge.rule("a.example", "/", "web");
    let (status, text) = edge.get("a.example", "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "service ns/web does not exist\n");

    edge.endpoints("web", AppProtocol::Http, &[]);
    let (status, text) = edge.get("a.example", "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "service ns/web has no ready endpoints\n");

    edge.endpoints("web", AppProtocol::Http, &["127.0.0.1:1".parse().unwrap()]);
    let (status, text) = edge.get("a.example", "/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.starts_with("service ns/web, endpoint 127.0.0.1:1: "), "{text}");
    assert!(text.contains("refused"), "{text}");

    let (namespace, name) = ("ns".into(), "web".into());
    edge.proxy.apply(Update::Service(Service { namespace, name, ports: vec![] }));
    let (_, text) = edge.get("a.example", "/").await;
    assert_eq!(text, "service ns/web has no port 80\n");
}

#[tokio::test]
async fn a_backend_that_is_silent_times_out() {
    let edge = edge_with(Config { response_timeout: 1, ..Config::default() }).await;
    let silent = origin(Speaks::Http1, |_| std::future::pending()).await;
    edge.all_to(AppProtocol::Http, &[silent.address]);
    let (status, text) = edge.get("a", "/").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(text, "service ns/web did not answer in 1 s\n");
}

#[tokio::test]
async fn a_slow_upload_is_no_silence() {
    let edge = edge_with(Config { response_timeout: 1, ..Config::default() }).await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
    let upload = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(400));
        for _ in 0..6 {
            ticks.tick().await;
            sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        }
    });
    let request = Request::post("/").header("host", "a").body(body.boxed()).unwrap();
    let response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(text(response).await.ends_with("\n\nxxxxxx"));
    upload.await.unwrap();
}

#[tokio::test]
async fn backends_learn_who_asks() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let request = Request::get("/x")
        .header("host", "a.example:8080")
        .header("x-forwarded-for", "10.0.0.1")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("x-kept", "1")
        .body(empty())
        .unwrap();
    let got = text(h1(edge.http).await.send(request).await).await;
    let lines: BTreeSet<&str> = got.lines().collect();
    let port = format!("x-forwarded-port: {}", edge.http.port());
    let expected = [
        "GET /x HTTP/1.1",
        "host: a.example:8080",
        "te: trailers",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.example:8080",
        &port,
        "x-forwarded-proto: http",
        "x-kept: 1",
        "x-real-ip: 127.0.0.1",
        "",
    ];
    assert_eq!(lines, BTreeSet::from(expected));
}

#[tokio::test]
async fn hosts_that_are_none_are_refused() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let cases: [(&str, u16); 8] = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("NONSENSE\r\n\r\n", 400),
    ];
    for (request, expected) in cases {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 12];
        stream.read_exact(&mut head).await.unwrap();
        let status = String::from_utf8(head[9..].to_vec()).unwrap();
        assert_eq!(status, expected.to_string(), "{request:?}");
    }
    // The absolute target is what counts.
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let request = "GET http://b.example/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("host: b.example\n"), "{answer}");
}

#[tokio::test]
async fn smuggled_requests_are_refused() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    for head in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: x\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n b\r\n",
    ] {
        let mut stream = TcpStream::connect(edge.http).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\nhello");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?} {answer}");
    }
    assert_eq!(mirror.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn heads_have_limits() {
    let edge = edge().await;
    edge.rule("", "/", "web");
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let _refused_while_sending = stream.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let edge = edge().await;
    // Answers each frame as it comes.
    let echo =
        origin(Speaks::Http1, |request| async move { Response::new(request.into_body().boxed()) })
            .await;
    edge.all_to(AppProtocol::Http, &[echo.address]);
    let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
    let request = Request::post("/").header("host", "a").body(body.boxed()).unwrap();
    let mut client = h1(edge.http).await;
    sender.send_data(Bytes::from_static(b"first")).await.unwrap();
    let mut response = client.send(request).await.into_body();
    let mut received = response.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(received, "first");
    sender.send_data(Bytes::from_static(b"second")).await.unwrap();
    received = response.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(received, "second");
    drop(sender);
    assert!(response.frame().await.is_none());
}

#[tokio::test]
async fn responses_without_a_body() {
    let edge = edge().await;
    let server = origin(Speaks::Http1, |request| async move {
        match request.uri().path() {
            "/204" => Response::builder().status(204).body(empty()).unwrap(),
            "/304" => Response::builder().status(304).header("etag", "x").body(empty()).unwrap(),
            _ => Response::builder().header("content-length", "5").body(full("hello")).unwrap(),
        }
    })
    .await;
    edge.all_to(AppProtocol::Http, &[server.address]);
    let mut client = h1(edge.http).await;
    for (method, path, status, length) in [
        ("HEAD", "/", 200, Some("5")),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("GET", "/", 200, Some("5")),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "a");
        let response = client.send(request.body(empty()).unwrap()).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let header = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(header, length, "{method} {path}");
        let expected = if method == "GET" && path == "/" { "hello" } else { "" };
        assert_eq!(text(response).await, expected);
    }
}

#[tokio::test]
async fn clients_that_ask_before_they_send() {
    let edge = edge().await;
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let mut stream = TcpStream::connect(edge.http).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\
        Expect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\n\nbody"), "{answer}");
}

#[tokio::test]
async fn an_answer_before_the_body_is_there() {
    let edge = edge().await;
    let refusing = origin(Speaks::Http1, |_| async {
        Response::builder().status(413).body(full("too much")).unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[refusing.address]);
    let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
    sender.send_data(Bytes::from(vec![0; 1024])).await.unwrap();
    let request = Request::post("/").header("host", "a").body(body.boxed()).unwrap();
    let response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(text(response).await, "too much");
    drop(sender);
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let edge = edge().await;
    let echo =
        origin(Speaks::Http1, |request| async move { Response::new(request.into_body().boxed()) })
            .await;
    edge.all_to(AppProtocol::Http, &[echo.address]);
    let sent: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    let request = Request::post("/").header("host", "a").body(full(sent.clone())).unwrap();
    let response = h1(edge.http).await.send(request).await;
    let received = response.into_body().collect().await.unwrap().to_bytes();
    assert!(received == sent);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_backend() {
    let edge = edge().await;
    let (left, mut noticed) = tokio::sync::mpsc::channel::<()>(1);
    let endless = origin(Speaks::Http1, move |_| {
        let left = left.clone();
        async move {
            let (mut sender, body) = Channel::<Bytes, hyper::Error>::new(1);
            tokio::spawn(async move {
                while sender.send_data(Bytes::from(vec![0; 4096])).await.is_ok() {}
                left.send(()).await.unwrap();
            });
            Response::new(body.boxed())
        }
    })
    .await;
    edge.all_to(AppProtocol::Http, &[endless.address]);
    let mut client = h1(edge.http).await;
    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
    let mut response = client.send(request).await.into_body();
    response.frame().await.unwrap().unwrap();
    drop((response, client));
    timeout(Duration::from_secs(5), noticed.recv()).await.unwrap().unwrap();
}

/// Whether the proxy closes a connection on which `bytes` have come and nothing more. The clock
/// runs ahead whenever nobody has anything to do.
async fn is_closed_after(address: SocketAddr, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    let _reset = stream.read_to_end(&mut rest).await;
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn clients_that_stall_are_cut_off() {
    let edge = edge().await;
    let silent = origin(Speaks::Http1, |request| async move {
        let _body = request.into_body().collect().await;
        Response::new(full("done"))
    })
    .await;
    edge.all_to(AppProtocol::Http, &[silent.address]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx";
    for (address, bytes, limit) in [
        (edge.http, &b""[..], HEAD),
        (edge.http, b"P", HEAD),
        (edge.http, b"GET / HTTP/1.1\r\nHost:", 2 * HEAD),
        (edge.http, preface, 2 * crate::activity::IDLE),
        (edge.http, body, 2 * crate::body::STALL),
        (edge.https, b"", HANDSHAKE),
        (edge.https, b"\x16\x03", HANDSHAKE),
    ] {
        let took = is_closed_after(address, bytes).await;
        assert!(took <= limit + Duration::from_secs(1), "{bytes:?} {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_end() {
    let edge = edge().await;
    let web = named("web").await;
    edge.all_to(AppProtocol::Http, &[web.address]);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let took = is_closed_after(edge.http, request).await;
    let idle = crate::activity::IDLE;
    assert!(took >= idle && took <= idle + 2 * HEAD, "{took:?}");
}

#[tokio::test]
async fn connections_to_backends_are_reused() {
    let edge = edge().await;
    let web = named("web").await;
    edge.all_to(AppProtocol::Http, &[web.address]);
    let mut client = h1(edge.http).await;
    for _ in 0..20 {
        let request = Request::get("/").header("host", "a").body(empty()).unwrap();
        assert_eq!(text(client.send(request).await).await, "web /");
    }
    assert_eq!(web.requests.load(Ordering::SeqCst), 20);
    assert!(web.connections.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn http2_over_tls_and_in_clear() {
    let edge = edge().await;
    edge.proxy.apply(Update::DefaultCertificate(certificate("default")));
    let mirror = mirror(Speaks::Http1).await;
    edge.all_to(AppProtocol::Http, &[mirror.address]);
    let (stream, _) = tls(edge.https, "a.example", b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let plain = TcpStream::connect(edge.http).await.unwrap();
    for (mut client, scheme) in [(h2_over(stream).await, "https"), (h2_over(plain).await, "http")] {
        let request = Request::post(format!("{scheme}://a.example/x"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(full("hello"))
            .unwrap();
        let response = client.send(request).await;
        assert_eq!(response.version(), Version::HTTP_2);
        let got = text(response).await;
        assert!(got.starts_with("POST /x HTTP/1.1\n"), "{got}");
        for line in ["host: a.example", "cookie: a=1; b=2", &format!("x-forwarded-proto: {scheme}")]
        {
            assert!(got.contains(&format!("{line}\n")), "{got}");
        }
        assert!(got.ends_with("\n\nhello"), "{got}");
    }
}

#[tokio::test]
async fn http2_requests_run_side_by_side() {
    let edge = edge().await;
    let gate = Arc::new(tokio::sync::Barrier::new(20));
    let meeting = origin(Speaks::Http2, move |_| {
        let gate = gate.clone();
        async move {
            gate.wait().await;
            Response::new(full("met"))
        }
    })
    .await;
    edge.all_to(AppProtocol::H2c, &[meeting.address]);
    let Http::Two(client) = h2_over(TcpStream::connect(edge.http).await.unwrap()).await else {
        unreachable!()
    };
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let mut client = client.clone();
        requests.spawn(async move {
            let request = Request::get("http://a.example/").body(empty()).unwrap();
            text(client.send_request(request).await.unwrap()).await
        });
    }
    assert!(requests.join_all().await.iter().all(|answer| answer == "met"));
    // All of them share one connection to the backend.
    assert_eq!(meeting.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn grpc_as_it_is_spoken() {
    let edge = edge().await;
    edge.proxy.apply(Update::DefaultCertificate(certificate("default")));
    let server = origin(Speaks::Http2, |request| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.uri().to_string(), "http://a.example/Service/Method");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let data = Full::new(body).map_err(|never| match never {});
        let with_trailers = data.with_trailers(async { Some(Ok(trailers)) });
        Response::new(with_trailers.boxed())
    })
    .await;
    edge.all_to(AppProtocol::H2c, &[server.address]);
    let (stream, _) = tls(edge.https, "a.example", b"h2").await;
    let request = Request::post("https://a.example/Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(full("message"))
        .unwrap();
    let response = h2_over(stream).await.send(request).await;
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "message");
}

#[tokio::test]
async fn trailers_pass_over_http1() {
    let edge = edge().await;
    let server = origin(Speaks::Http1, |_| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let data = Full::new(Bytes::from_static(b"data")).map_err(|never| match never {});
        let body = data.with_trailers(async { Some(Ok(trailers)) }).boxed();
        // Without a length, so that it is sent in chunks, which trailers can follow.
        let frames = body.map_frame(|frame: Frame<Bytes>| frame).boxed();
        Response::builder().header("trailer", "x-sum").body(frames).unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[server.address]);
    let request =
        Request::get("/").header("host", "a").header("te", "trailers").body(empty()).unwrap();
    let response = h1(edge.http).await.send(request).await;
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
}

#[tokio::test]
async fn backends_over_tls() {
    let edge = edge().await;
    for (alpn, version) in [(&b"h2"[..], "HTTP/2.0"), (b"http/1.1", "HTTP/1.1")] {
        let mirror = mirror(Speaks::Tls(alpn)).await;
        edge.all_to(AppProtocol::Https, &[mirror.address]);
        let (status, text) = edge.get("a.example", "/x").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.lines().next().unwrap().ends_with(version), "{text}");
    }
}

#[tokio::test]
async fn certificates_by_name() {
    let edge = edge().await;
    let [default, own, wildcard] = ["default", "own", "wildcard"].map(certificate);
    let der = |made: &Certificate| {
        CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap().to_vec()
    };
    edge.proxy.apply(Update::DefaultCertificate(default.clone()));
    edge.proxy.apply(Update::Certificate(own.clone()));
    edge.proxy.apply(Update::Certificate(wildcard.clone()));
    let tls_of = |host: &str, secret: &str| Tls { hosts: vec![host.into()], secret: secret.into() };
    edge.proxy.apply(Update::Ingress(Ingress {
        namespace: "ns".into(),
        name: "tls".into(),
        tls: vec![tls_of("own.example", "own"), tls_of("*.example", "wildcard")],
        ..Ingress::default()
    }));
    for (host, expected) in
        [("own.example", &own), ("other.example", &wildcard), ("a.b.example", &default)]
    {
        let (_, got) = tls(edge.https, host, b"http/1.1").await;
        assert!(got == der(expected), "{host}");
    }
    // A renewed certificate is served from the next handshake on.
    let renewed = certificate("own");
    edge.proxy.apply(Update::Certificate(renewed.clone()));
    assert!(tls(edge.https, "own.example", b"h2").await.1 == der(&renewed));
}

#[tokio::test]
async fn websockets_and_other_upgrades() {
    let edge = edge().await;
    let echo = origin(Speaks::Http1, |mut request| async move {
        assert_eq!(request.headers()["connection"], "upgrade");
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(request.headers()["sec-websocket-key"], "x");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let stream = TokioIo::new(upgrade.await.unwrap());
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", "y")
            .body(empty())
            .unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[echo.address]);
    let request = Request::get("/")
        .header("host", "a")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "x")
        .body(empty())
        .unwrap();
    let mut response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "y");
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    for message in ["one", "two"] {
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut echoed = vec![0; 3];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, message.as_bytes());
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_upgrade_may_be_declined() {
    let edge = edge().await;
    let plain = origin(Speaks::Http1, |_| async {
        Response::builder().status(StatusCode::FORBIDDEN).body(full("no")).unwrap()
    })
    .await;
    edge.all_to(AppProtocol::Http, &[plain.address]);
    let request = Request::get("/")
        .header("host", "a")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(empty())
        .unwrap();
    let response = h1(edge.http).await.send(request).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(text(response).await, "no");
}

/// Sends requests from several clients until told to stop; counts successes, lists failures.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<(usize, Vec<String>)>,
    done: Arc<AtomicUsize>,
}

impl Load {
    fn start(address: SocketAddr, method: Method, clients: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (stop, done, method) = (stop.clone(), done.clone(), method.clone());
            tasks.spawn(async move {
                let (mut good, mut bad) = (0, Vec::new());
                let mut client = h1(address).await;
                while !stop.load(Ordering::SeqCst) {
                    let body = if method == Method::POST { full("body") } else { empty() };
                    let request = Request::builder().method(&method).uri("/").header("host", "a");
                    let response = client.try_send(request.body(body).unwrap()).await;
                    match response {
                        Ok(response) if response.status() == StatusCode::OK => {
                            match response.into_body().collect().await {
                                Ok(_) => good += 1,
                                Err(error) => bad.push(error.to_string()),
                            }
                        }
                        Ok(response) => {
                            let status = response.status();
                            bad.push(format!("{status} {}", text(response).await));
                        }
                        Err(error) => {
                            bad.push(error.to_string());
                            client = h1(address).await;
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
                (good, bad)
            });
        }
        Self { stop, tasks, done }
    }

    /// Waits until that many more requests are done.
    async fn more(&self, count: usize) {
        let until = self.done.load(Ordering::SeqCst) + count;
        let started = StdInstant::now();
        while self.done.load(Ordering::SeqCst) < until {
            assert!(started.elapsed() < Duration::from_secs(30), "load does not go on");
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let results = self.tasks.join_all().await;
        let good = results.iter().map(|(good, _)| good).sum();
        (good, results.into_iter().flat_map(|(_, bad)| bad).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_backends_are_killed() {
    let edge = edge().await;
    let mut backends = vec![named("0").await, named("1").await, named("2").await];
    let addresses = |backends: &[Origin]| backends.iter().map(|b| b.address).collect::<Vec<_>>();
    edge.all_to(AppProtocol::Http, &addresses(&backends));
    let load = Load::start(edge.http, Method::GET, 8);
    load.more(200).await;
    for _ in 0..10 {
        // Killed without a word, and the endpoints follow later.
        backends.remove(0).kill();
        load.more(100).await;
        backends.push(named("next").await);
        edge.all_to(AppProtocol::Http, &addresses(&backends));
        load.more(100).await;
    }
    let (good, bad) = load.end().await;
    assert!(bad.is_empty(), "{} of {good} failed: {:?}", bad.len(), &bad[..1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_in_a_rolling_update() {
    for method in [Method::GET, Method::POST] {
        let edge = edge().await;
        let mut backends = vec![graceful().await, graceful().await];
        let addresses =
            |backends: &[Graceful]| backends.iter().map(|b| b.address).collect::<Vec<_>>();
        edge.all_to(AppProtocol::Http, &addresses(&backends));
        let load = Load::start(edge.http, method.clone(), 8);
        load.more(200).await;
        for _ in 0..10 {
            // As the cluster does it: a new pod is ready, an old one is no endpoint any longer,
            // ends its requests, closes its connections.
            backends.push(graceful().await);
            let old = backends.remove(0);
            edge.all_to(AppProtocol::Http, &addresses(&backends));
            if method == Method::POST {
                // A server that hangs up while a request is on its way loses it, and what is not
                // idempotent cannot be repeated: pods have their preStop hook against it.
                load.more(50).await;
            }
            old.stop.send(()).unwrap();
            load.more(100).await;
            timeout(Duration::from_secs(5), old.ended).await.unwrap().unwrap();
        }
        let (good, bad) = load.end().await;
        assert!(bad.is_empty(), "{method}: {} of {good} failed: {:?}", bad.len(), &bad[..1]);
    }
}

/// A backend that ends as a good one does.
struct Graceful {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn graceful() -> Graceful {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, mut stopped) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let (ending, end) = watch::channel(false);
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                _ = &mut stopped => break,
            };
            let mut end = end.clone();
            connections.spawn(async move {
                let service = service_fn(|request: Request<Incoming>| async {
                    let _body = request.into_body().collect().await;
                    Ok::<_, Infallible>(Response::new(full("ok")))
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection);
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = flagged(&mut end) => {
                        connection.as_mut().graceful_shutdown();
                        let _ended = connection.await;
                    }
                }
            });
        }
        // Who is in the queue of the listener gets an answer too.
        while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(50), listener.accept()).await
        {
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(full("ok"))) });
            let mut one = http1::Builder::new();
            connections.spawn(async move {
                let _ended =
                    one.keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
            });
        }
        ending.send(true).unwrap();
        connections.join_all().await;
    });
    Graceful { address, stop, ended }
}

#[tokio::test]
async fn a_request_waits_for_the_next_endpoint() {
    let edge = edge().await;
    // The only endpoint is gone, and the news of its successor comes a moment later.
    edge.all_to(AppProtocol::Http, &["127.0.0.1:1".parse().unwrap()]);
    let next = named("next").await;
    let request = edge.get("a", "/");
    let news = async {
        tokio::task::yield_now().await;
        edge.endpoints("web", AppProtocol::Http, &[next.address]);
    };
    let ((status, text), ()) = tokio::join!(request, news);
    assert_eq!((status, text.as_str()), (StatusCode::OK, "next /"));
}

#[tokio::test]
async fn what_may_have_had_an_effect_is_not_repeated() {
    let edge = edge().await;
    // Takes the request and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _read = stream.read(&mut head).await;
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let good = named("good").await;
    edge.all_to(AppProtocol::Http, &[address]);
    let mut client = h1(edge.http).await;
    let post = || Request::post("/").header("host", "a").body(full("order")).unwrap();
    let response = client.send(post()).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    drop(text(response).await);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    // A GET may be repeated, and finds the other endpoint.
    edge.endpoints("web", AppProtocol::Http, &[address, good.address]);
    for _ in 0..10 {
        assert_eq!(edge.get("a", "/").await, (StatusCode::OK, "good /".into()));
    }
}

#[tokio::test]
async fn draining_lets_requests_end() {
    let edge = edge().await;
    let (release, released) = watch::channel(false);
    let slow = origin(Speaks::Http1, move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            Response::new(full("done"))
        }
    })
    .await;
    edge.all_to(AppProtocol::Http, &[slow.address]);
    let mut idle = h1(edge.http).await;
    let mut busy = h1(edge.http).await;
    let request = || Request::get("/").header("host", "a").body(empty()).unwrap();
    let answer = tokio::spawn(async move {
        let response = busy.send(request()).await;
        assert_eq!(response.headers()["connection"], "close");
        text(response).await
    });
    while slow.requests.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(edge.stop);
    while TcpStream::connect(edge.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(idle.try_send(request()).await.is_err());
    release.send(true).unwrap();
    assert_eq!(answer.await.unwrap(), "done");
    for task in edge.tasks {
        timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn more_clients_than_allowed_have_to_wait() {
    let edge = edge_with(Config { max_connections: 2, ..Config::default() }).await;
    let web = named("web").await;
    edge.all_to(AppProtocol::Http, &[web.address]);
    // Each listener holds one slot for whom it waits.
    let mut first = h1(edge.http).await;
    let request = || Request::get("/").header("host", "a").body(empty()).unwrap();
    assert_eq!(text(first.send(request()).await).await, "web /");
    let mut second = h1(edge.http).await;
    let mut waiting = pin!(second.try_send(request()));
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    drop(first);
    let response = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!(text(response).await, "web /");
}
