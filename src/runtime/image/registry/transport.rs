//! HTTP/1.1 over TCP or TLS to registries.
//!
//! Names are resolved by hickory, because a static program cannot use the C library's resolver.
//! Certificates are checked against the system's authorities where there are any, else against
//! Mozilla's, which are compiled in.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use http::{Request, Response};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pki::trust::AnyCertificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Refusal;
use super::endpoint::Url;
use super::proxy::Proxies;
use crate::config::RegistryConfig;
use crate::sync::lock;

const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// For the head of an answer, and for every part of a body.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// Where distributions keep the bundle of certificate authorities.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Waits for something that may take as long as an answer.
pub(super) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::time::timeout(ANSWER_PATIENCE, work)
        .await
        .map_err(|_| Refusal::unavailable(format!("{what}: i/o timeout")))
}

/// Connections to registries.
#[derive(Debug)]
pub(super) struct Transport {
    insecure: Vec<String>,
    authorities: HashMap<String, String>,
    /// By host: they share sessions.
    tls: Mutex<HashMap<String, Arc<ClientConfig>>>,
    resolver: OnceLock<TokioResolver>,
    proxies: Proxies,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Transport {
    pub(super) fn new(config: &RegistryConfig) -> Transport {
        Transport {
            insecure: config.insecure.clone(),
            authorities: config.ca.clone().into_iter().collect(),
            tls: Mutex::default(),
            resolver: OnceLock::new(),
            proxies: Proxies::from_env(),
        }
    }

    /// Sends a request and answers the head of the response.
    pub(super) async fn send<B>(
        &self,
        url: &Url,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, Refusal>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let failed = |e: String| {
            let method = request_name(url);
            Refusal::unavailable(format!("failed to do request: {method}: {e}"))
        };
        let stream = self.connect(url).await.map_err(&failed)?;
        if let Some(proxy) = self.proxies.of(url).filter(|_| !url.tls) {
            // A proxy for plain text is asked for the whole address.
            let bad = |e: String| Refusal::invalid(format!("request for {url}: {e}"));
            *request.uri_mut() = url.to_string().parse().map_err(|e| bad(format!("{e}")))?;
            if let Some(authorization) = proxy.authorization() {
                let value = authorization.parse().map_err(|e| bad(format!("{e}")))?;
                request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, value);
            }
        }
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| failed(e.to_string()))?;
        // Ends with the response's body.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "registry connection");
            }
        });
        let response = in_time("response", sender.send_request(request)).await?;
        response.map_err(|e| failed(e.to_string()))
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, String> {
        let proxy = self.proxies.of(url);
        let mut stream = self.dial(proxy.map_or(url, |proxy| &proxy.url)).await?;
        if !url.tls {
            return Ok(Box::new(stream));
        }
        if let Some(proxy) = proxy {
            let tunnel = proxy.tunnel(&mut stream, url);
            let done = tokio::time::timeout(CONNECT_PATIENCE, tunnel).await;
            done.map_err(|_| "proxyconnect tcp: i/o timeout".to_owned())??;
        }
        self.secure(url, stream).await
    }

    /// Connects to the first of a host's addresses that answers.
    async fn dial(&self, url: &Url) -> Result<TcpStream, String> {
        let (host, port) = url.host_and_port();
        let mut last = String::new();
        for address in self.resolve(host).await? {
            let address = SocketAddr::new(address, port);
            match tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(e)) => last = format!("dial tcp {address}: connect: {}", plain(&e)),
                Err(_) => last = format!("dial tcp {address}: i/o timeout"),
            }
        }
        Err(last)
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let missing = |e: String| format!("dial tcp: lookup {host}: {e}");
        let resolver = match self.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let new = TokioResolver::builder_tokio().and_then(|builder| builder.build());
                let new = new.map_err(|e| missing(e.to_string()))?;
                self.resolver.get_or_init(|| new)
            }
        };
        let found = resolver.lookup_ip(host).await.map_err(|e| match e.is_no_records_found() {
            true => missing("no such host".to_owned()),
            false => missing(e.to_string()),
        })?;
        // IPv4 first: a machine without an IPv6 route still gets the addresses.
        let mut all: Vec<IpAddr> = found.iter().collect();
        all.sort_by_key(IpAddr::is_ipv6);
        Ok(all)
    }

    async fn secure(&self, url: &Url, stream: TcpStream) -> Result<Box<dyn Stream>, String> {
        let (host, _) = url.host_and_port();
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let config = self.tls_config(&url.authority)?;
        let secured = TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(CONNECT_PATIENCE, secured).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(e)) => Err(format!("tls: {e}")),
            Err(_) => Err("net/http: TLS handshake timeout".to_owned()),
        }
    }

    fn tls_config(&self, authority: &str) -> Result<Arc<ClientConfig>, String> {
        if let Some(config) = lock(&self.tls).get(authority) {
            return Ok(config.clone());
        }
        let host = authority.split(':').next().unwrap_or(authority);
        let provider = pki::ciphers::provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let config = if self.insecure.iter().any(|i| i == authority || i == host) {
            let any = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()
        } else {
            let mut roots = system_authorities();
            if let Some(pem) = self.authorities.get(authority).or(self.authorities.get(host)) {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|e| e.to_string())?;
                    roots.add(certificate).map_err(|e| e.to_string())?;
                }
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        };
        let config = Arc::new(config);
        lock(&self.tls).insert(authority.to_owned(), config.clone());
        Ok(config)
    }
}

fn request_name(url: &Url) -> String {
    format!("Get {:?}", url.to_string())
}

/// An error in the words that event readers know.
fn plain(error: &std::io::Error) -> String {
    crate::shim::launch::plain(error)
}

fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let named = std::env::var("SSL_CERT_FILE").ok();
    for bundle in named.as_deref().into_iter().chain(BUNDLES) {
        let Ok(pem) = std::fs::read(bundle) else { continue };
        let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        roots.add_parsable_certificates(certificates);
        if !roots.is_empty() {
            return roots;
        }
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots
}
