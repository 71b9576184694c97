//! Probes and lifecycle hooks that send an HTTP GET.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{Outcome, net};

/// More of a body is not read.
const MAX_BODY: usize = 10 << 10;
/// Redirects followed, as long as they stay on the host.
const MAX_REDIRECTS: usize = 10;

/// A request to a container.
#[derive(Clone, Debug)]
pub(crate) struct HttpGet {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// `probe` or `lifecycle`, for the user agent.
    pub(crate) agent: &'static str,
}

impl HttpGet {
    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        format!("{scheme}://{}{slash}{}", net::authority(&self.host, self.port), self.path)
    }
}

/// An answer: its status, body and where it redirects to.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    location: Option<String>,
}

pub(super) async fn probe(request: &HttpGet, timeout: Duration) -> Outcome {
    let attempt = async {
        let mut request = request.clone();
        for _ in 0..MAX_REDIRECTS {
            let answer = get(&request, timeout).await?;
            match redirect(&request, &answer) {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        Err(format!("Get {:?}: stopped after 10 redirects", request.url()))
    };
    match tokio::time::timeout(timeout, attempt).await {
        Err(_) => Outcome::Failure(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            request.url()
        )),
        Ok(Err(text)) => Outcome::Failure(text),
        Ok(Ok(answer)) => match answer.status {
            200..=299 => Outcome::Success,
            300..=399 => Outcome::Warning(format!(
                "Probe terminated redirects, Response body: {}",
                String::from_utf8_lossy(&answer.body)
            )),
            status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        },
    }
}

/// Where to go next, if the answer redirects within the host.
fn redirect(request: &HttpGet, answer: &Answer) -> Option<HttpGet> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.location.as_deref()?;
    let target: http::Uri = location.parse().ok()?;
    let mut next = request.clone();
    if let Some(authority) = target.authority() {
        if authority.host().trim_matches(['[', ']']) != request.host {
            return None;
        }
        next.tls = target.scheme_str() == Some("https");
        next.port = authority.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
    }
    let path = target.path_and_query().map(ToString::to_string).unwrap_or_default();
    next.path = if path.starts_with('/') {
        path
    } else {
        let folder = request.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{path}")
    };
    Some(next)
}

/// Sends the request; the error is in the words of Go's HTTP client.
pub(crate) async fn get(request: &HttpGet, timeout: Duration) -> Result<Answer, String> {
    let url = request.url();
    let failed = |text: String| format!("Get {url:?}: {text}");
    let stream = net::connect(&request.host, request.port, timeout).await.map_err(failed)?;
    if request.tls {
        let name = ServerName::try_from(request.host.clone())
            .map_err(|_| failed("invalid host".to_owned()))?;
        let stream = TlsConnector::from(trusting())
            .connect(name, stream)
            .await
            .map_err(|error| failed(error.to_string()))?;
        exchange(request, stream).await.map_err(failed)
    } else {
        exchange(request, stream).await.map_err(failed)
    }
}

async fn exchange<S>(request: &HttpGet, stream: S) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let message = message(request)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // The connection is driven beside the request and dropped with it.
    let work = async {
        let response = sender.send_request(message).await.map_err(words)?;
        let location = response
            .headers()
            .get(http::header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .map(ToOwned::to_owned);
        let status = response.status().as_u16();
        let body = match Limited::new(response.into_body(), MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        Ok(Answer { status, body, location })
    };
    tokio::pin!(work);
    let mut connection = std::pin::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut work => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

fn words(error: hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    error.to_string()
}

fn message(request: &HttpGet) -> Result<http::Request<Empty<Bytes>>, String> {
    let path = if request.path.starts_with('/') {
        request.path.clone()
    } else {
        format!("/{}", request.path)
    };
    let given = |name: &str| {
        request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    };
    let mut builder = http::Request::get(path);
    let host = given("host")
        .map_or_else(|| net::authority(&request.host, request.port), ToOwned::to_owned);
    builder = builder.header(http::header::HOST, host);
    if given("user-agent").is_none() {
        builder = builder.header(http::header::USER_AGENT, format!("kube-{}/1.37", request.agent));
    }
    if given("accept").is_none() {
        builder = builder.header(http::header::ACCEPT, "*/*");
    }
    builder = builder.header(http::header::CONNECTION, "close");
    for (name, value) in &request.headers {
        let dropped = name.eq_ignore_ascii_case("host")
            || (name.eq_ignore_ascii_case("accept") && value.is_empty());
        if !dropped {
            builder = builder.header(name, value);
        }
    }
    builder.body(Empty::new()).map_err(|error| error.to_string())
}

/// Probes do not verify certificates: they ask whether something answers, not who.
fn trusting() -> Arc<ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
    CONFIG.get_or_init(|| Arc::new(pki::trust::any_server())).clone()
}
