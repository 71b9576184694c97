//! Requests that this server sends: to kubelets, pods, webhooks and aggregated API servers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apimachinery::Status;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use pki::trust::AnyCertificate;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::{body::BoxError, decode::Payload};

/// A target must be connected after this long.
const CONNECT: Duration = Duration::from_secs(10);
/// The largest answer that is read into memory.
const ANSWER: usize = 16 << 20;

/// Where a request goes.
pub struct Target {
    /// IP address or name, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name that the certificate must be for, where it is not that of the host.
    pub name: Option<String>,
    /// TLS, where it is spoken.
    pub tls: Option<Arc<ClientConfig>>,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Host and port as they stand in a URL.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A certificate to show, with its key.
pub struct ClientIdentity {
    /// Certificate chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// Whose certificates are accepted.
pub enum Trust<'a> {
    /// Anyone's: for pods, whose identity their address is.
    Anyone,
    /// Those that one of these authorities (PEM) signed.
    Authorities(&'a [u8]),
}

/// TLS towards a server.
///
/// # Errors
/// When an authority is no certificate or the key does not fit.
pub fn tls(
    trust: &Trust<'_>,
    identity: Option<&ClientIdentity>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = pki::ciphers::provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        }
        Trust::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| format!("{error:?}"))?;
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|error| error.to_string())?,
    };
    Ok(Arc::new(config))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to `target`.
///
/// # Errors
/// 503 when it cannot be reached.
pub async fn connect(target: &Target) -> Result<http1::SendRequest<Payload>, Status> {
    let stream = tokio::time::timeout(CONNECT, open(target))
        .await
        .map_err(|_| unreachable(target, &"connection timed out"))?
        .map_err(|error| unreachable(target, &error))?;
    let (sender, connection) = http1::Builder::new()
        .handshake::<_, Payload>(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(target, &error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "connection to another server ended");
        }
    });
    Ok(sender)
}

async fn open(target: &Target) -> Result<Box<dyn Stream>, BoxError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &target.tls else { return Ok(Box::new(stream)) };
    let name = target.name.as_ref().unwrap_or(&target.host);
    let name = ServerName::try_from(name.clone())?;
    Ok(Box::new(TlsConnector::from(tls.clone()).connect(name, stream).await?))
}

/// 503, in the words of upstream's reverse proxy.
pub fn unreachable(target: &Target, error: &dyn std::fmt::Display) -> Status {
    let authority = target.authority();
    Status::unavailable(format!("error trying to reach service: dial tcp {authority}: {error}"))
}

/// Sends a GET without a body and returns the answer.
///
/// # Errors
/// 503 when the target cannot be reached.
pub async fn get(
    target: &Target,
    accept: &str,
    headers: HeaderMap,
) -> Result<http::Response<Incoming>, Status> {
    let mut request = http::Request::builder()
        .uri(&target.path)
        .header(header::HOST, target.authority())
        .header(header::ACCEPT, accept)
        .body(Payload::Bytes(Bytes::new()))
        .map_err(|error| Status::bad_request(error.to_string()))?;
    request.headers_mut().extend(headers);
    let mut sender = connect(target).await?;
    sender.send_request(request).await.map_err(|error| unreachable(target, &error))
}

/// Sends JSON and reads JSON, as webhooks speak.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn post_json(target: &Target, body: &Value, patience: Duration) -> Result<Value, String> {
    let exchange = async {
        let request = http::Request::builder()
            .method("POST")
            .uri(&target.path)
            .header(header::HOST, target.name.clone().unwrap_or_else(|| target.authority()))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .header(header::USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"))
            .body(Payload::Bytes(body.to_string().into()))
            .map_err(|error| error.to_string())?;
        let mut sender = connect(target).await.map_err(|status| status.message)?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let code = response.status();
        let bytes = read(response.into_body()).await?;
        if !code.is_success() {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).into_owned();
            return Err(format!("the server answered {code}: {text}"));
        }
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    };
    match tokio::time::timeout(patience, exchange).await {
        Ok(result) => result,
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

/// Reads an answer that must not be large.
///
/// # Errors
/// Why it cannot be read.
pub async fn read(body: Incoming) -> Result<Bytes, String> {
    let body = Limited::new(body, ANSWER).collect().await.map_err(|error| error.to_string())?;
    Ok(body.to_bytes())
}

/// A request body on its way to a target.
impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Incoming(body) => match body.body() {
                Some(body) => Pin::new(body)
                    .poll_frame(context)
                    .map(|next| next.map(|frame| frame.map_err(BoxError::from))),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.look().is_none_or(http_body::Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) => {
                body.look().map_or_else(SizeHint::default, http_body::Body::size_hint)
            }
        }
    }
}
