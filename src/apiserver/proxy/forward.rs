//! Sends a request on and its answer back; after an upgrade bytes pass in both directions.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apimachinery::Status;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body::{Frame, SizeHint};
use hyper::{client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::Target;
use crate::{
    http::{
        body::{Body, BoxError, Response},
        decode::Payload,
    },
    registry::Call,
};

/// A target must be connected after this long.
const CONNECT: Duration = Duration::from_secs(10);

/// Headers that belong to one connection and not to the message.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whether the request wants to leave HTTP.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter();
    connection
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("upgrade"))
        && headers.contains_key(header::UPGRADE)
}

/// Sends the request to `target` and answers what that answers.
pub(super) async fn send(
    call: &Call<'_>,
    parts: &mut Parts,
    body: Payload,
    target: Target,
) -> Result<Response, Status> {
    let upgrade = is_upgrade(call.headers);
    let request = request(call, parts, body, &target, upgrade)?;
    let mut sender = connect(&target).await?;
    let mut response =
        sender.send_request(request).await.map_err(|error| unreachable(&target, &error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = response.into_parts();
        for name in &HOP_BY_HOP {
            head.headers.remove(name);
        }
        return Ok(Response::from_parts(head, Body::Proxied(body)));
    }
    let ours = parts
        .extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| Status::bad_request("this connection cannot be upgraded"))?;
    let theirs = hyper::upgrade::on(&mut response);
    let stop = call.server.stop.clone();
    tokio::spawn(async move {
        let (ours, theirs) = match tokio::try_join!(ours, theirs) {
            Ok(both) => both,
            Err(error) => return debug!(%error, "upgrade failed"),
        };
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        tokio::select! {
            result = tokio::io::copy_bidirectional(&mut ours, &mut theirs) => {
                if let Err(error) = result {
                    debug!(%error, "stream ended");
                }
            }
            () = stop.cancelled() => {}
        }
    });
    let (head, _) = response.into_parts();
    Ok(Response::from_parts(head, Body::empty()))
}

fn request(
    call: &Call<'_>,
    parts: &Parts,
    body: Payload,
    target: &Target,
    upgrade: bool,
) -> Result<http::Request<Payload>, Status> {
    let path = if target.path.is_empty() { "/" } else { &target.path };
    let mut headers = HeaderMap::new();
    for (name, value) in call.headers {
        // Credentials and impersonation were for us.
        let ours = *name == header::AUTHORIZATION
            || *name == header::HOST
            || name.as_str().starts_with("impersonate-");
        let hop = HOP_BY_HOP.contains(name)
            && !(upgrade && (*name == header::CONNECTION || *name == header::UPGRADE));
        if !ours && !hop {
            headers.append(name, value.clone());
        }
    }
    let host = match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    };
    let bad = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
    headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|error| bad(&error))?);
    let mut request = http::Request::builder()
        .method(parts.method.clone())
        .uri(path)
        .body(body)
        .map_err(|error| bad(&error))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends a GET without a body and returns the answer.
pub(super) async fn fetch(
    target: &Target,
) -> Result<http::Response<hyper::body::Incoming>, Status> {
    let request = http::Request::builder()
        .uri(&target.path)
        .header(header::HOST, format!("{}:{}", target.host, target.port))
        .body(Payload::Bytes(Bytes::new()))
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let mut sender = connect(target).await?;
    sender.send_request(request).await.map_err(|error| unreachable(target, &error))
}

async fn connect(target: &Target) -> Result<http1::SendRequest<Payload>, Status> {
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
            debug!(%error, "proxied connection ended");
        }
    });
    Ok(sender)
}

async fn open(target: &Target) -> Result<Box<dyn Stream>, BoxError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &target.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(target.host.clone())?;
    Ok(Box::new(TlsConnector::from(tls.clone()).connect(name, stream).await?))
}

fn unreachable(target: &Target, error: &dyn std::fmt::Display) -> Status {
    let Target { host, port, .. } = target;
    // The words of upstream's reverse proxy.
    Status::unavailable(format!("error trying to reach service: dial tcp {host}:{port}: {error}"))
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
            Self::Incoming(body) => Pin::new(body)
                .poll_frame(context)
                .map(|next| next.map(|frame| frame.map_err(BoxError::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) => body.size_hint(),
        }
    }
}

/// TLS that trusts any certificate: for pods, whose identity their address is.
pub(super) fn unverified_tls() -> Arc<rustls::ClientConfig> {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};

    #[derive(Debug)]
    struct Anyone(Arc<rustls::crypto::CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _leaf: &rustls::pki_types::CertificateDer<'_>,
            _intermediates: &[rustls::pki_types::CertificateDer<'_>],
            _name: &ServerName<'_>,
            _ocsp: &[u8],
            _now: rustls::pki_types::UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions");
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    Arc::new(config)
}
