//! A request's way from a client to a backend, and the answer's way back.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::{Backend, Backends, Missing};
use crate::body::{Progress, RequestBody, ResponseBody};
use crate::certificates::Certificates;
use crate::endpoint::{Endpoint, InUse, SendError};
use crate::forwarded::{self, Origin};
use crate::model::{Config, Update, key};
use crate::path;
use crate::router::{Router, Target};
use crate::server::Client;
use crate::tunnel;

/// How often a request is sent until it counts as failed.
const MAX_ATTEMPTS: usize = 8;
/// How long a request waits for other endpoints when all have refused it: in a rolling update the
/// new addresses may be known a moment after the old ones are gone.
const SETTLE: Duration = Duration::from_secs(1);

/// A proxy without its sockets: the state that all listeners share, fed by the agent.
#[derive(Debug)]
pub struct Proxy {
    config: RwLock<Arc<Config>>,
    router: RwLock<Router>,
    backends: RwLock<Backends>,
    certificates: Arc<Certificates>,
    tls: Arc<rustls::ServerConfig>,
    pub(crate) slots: Arc<Semaphore>,
}

impl Proxy {
    /// A proxy that has no rules yet.
    pub fn new(config: Config) -> Arc<Self> {
        let certificates = Arc::new(Certificates::default());
        let slots = Semaphore::new(config.max_connections as usize);
        Arc::new(Self {
            config: RwLock::new(Arc::new(config)),
            router: RwLock::default(),
            backends: RwLock::default(),
            tls: Arc::new(crate::server::tls_config(certificates.clone())),
            certificates,
            slots: Arc::new(slots),
        })
    }

    /// Takes over new settings; a new limit of connections only at the next start.
    pub fn configure(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn tls(&self) -> Arc<rustls::ServerConfig> {
        self.tls.clone()
    }

    /// Begins a full transfer: what is not repeated before the next [`Update::Synced`] is dropped.
    pub fn begin(&self) {
        self.router.write().unwrap_or_else(PoisonError::into_inner).begin();
        self.backends.write().unwrap_or_else(PoisonError::into_inner).begin();
        self.certificates.begin();
    }

    /// Takes over one change.
    pub fn apply(&self, update: Update) {
        let router = || self.router.write().unwrap_or_else(PoisonError::into_inner);
        let backends = || self.backends.write().unwrap_or_else(PoisonError::into_inner);
        match update {
            Update::Ingress(ingress) => {
                self.certificates.upsert_ingress(&ingress);
                router().upsert(ingress);
            }
            Update::RemoveIngress { namespace, name } => {
                let name = key(&namespace, &name);
                router().remove(&name);
                self.certificates.remove_ingress(&name);
            }
            Update::Service(service) => backends().upsert(service),
            Update::RemoveService { namespace, name } => backends().remove(&key(&namespace, &name)),
            Update::Certificate(certificate) => {
                let (namespace, name) = (certificate.namespace.clone(), certificate.name.clone());
                if let Err(error) = self.certificates.upsert(certificate) {
                    tracing::warn!(namespace, name, %error, "secret is no certificate");
                }
            }
            Update::RemoveCertificate { namespace, name } => {
                self.certificates.remove(&key(&namespace, &name));
            }
            Update::DefaultCertificate(certificate) => {
                if let Err(error) = self.certificates.set_default(&certificate) {
                    tracing::warn!(%error, "default certificate not usable");
                }
            }
            Update::Synced => {
                router().synced();
                backends().synced();
                self.certificates.synced();
            }
        }
    }

    /// Answers one request of a client.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Response<ResponseBody> {
        let method = request.method().clone();
        let response = match self.forward(request, &client).await {
            Ok(response) => response,
            Err(problem) => problem.response(),
        };
        tracing::debug!(peer = %client.peer, %method, status = %response.status(), "request");
        response
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        client: &Arc<Client>,
    ) -> Result<Response<ResponseBody>, Problem> {
        let in_progress = client.activity.request();
        let (backend, mut attempt, on_upgrade) = self.prepare(request, client)?;
        let wants_upgrade = attempt.upgrade.is_some();
        let (mut response, endpoint) = attempt.run(&backend).await?;
        let to_backend = hyper::upgrade::on(&mut response);
        let (mut parts, incoming) = response.into_parts();
        let switched_to = parts.headers.get(UPGRADE).cloned();
        forwarded::remove_hop_by_hop(&mut parts.headers);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(protocol), true) = (switched_to, wants_upgrade) else {
                let text = "backend switched protocols without being asked";
                return Err(Problem::new(StatusCode::BAD_GATEWAY, text));
            };
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, protocol);
            if let Some(from_client) = on_upgrade {
                tunnel::spawn(from_client, to_backend, client.clone(), endpoint);
            }
            return Ok(Response::from_parts(parts, ResponseBody::Text(None)));
        }
        // The version of the backend's protocol is not that of the client's.
        parts.version = Version::default();
        let body = ResponseBody::Backend { incoming, _endpoint: endpoint, _request: in_progress };
        Ok(Response::from_parts(parts, body))
    }

    /// Finds the backend of a request and makes the request that it will get.
    fn prepare(
        &self,
        mut request: Request<Incoming>,
        client: &Client,
    ) -> Result<(Arc<Backend>, Attempt, Option<OnUpgrade>), Problem> {
        if request.method() == Method::CONNECT {
            let text = "CONNECT is not for a server of websites";
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        let authority = authority_of(&request)?;
        let host = path::host_of(&authority);
        let path = path::without_dot_segments(request.uri().path());
        let target = {
            let router = self.router.read().unwrap_or_else(PoisonError::into_inner);
            router.find(&host, &path).cloned()
        };
        let Some(target) = target else {
            let text = format!("no Ingress rule matches host {host:?} and path {path:?}");
            return Err(Problem::new(StatusCode::NOT_FOUND, text));
        };
        let backend = self.backend(&target)?;
        let path_and_query = match (&path, request.uri().query()) {
            (std::borrow::Cow::Borrowed(_), _) => request.uri().path_and_query().cloned(),
            (path, None) => path.parse().ok(),
            (path, Some(query)) => format!("{path}?{query}").parse().ok(),
        };
        let Some(path_and_query) = path_and_query else {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "request without a path"));
        };
        let config = self.config();
        let version = request.version();
        let upgrade = forwarded::wanted_upgrade(request.headers(), version);
        let on_upgrade = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut parts, incoming) = request.into_parts();
        let peer = client.peer.ip().to_canonical();
        let origin = Origin {
            peer,
            trusted: config.trusted_proxies.iter().any(|range| range.contains(&peer)),
            tls: client.tls,
            port: client.port,
            authority: &authority,
        };
        forwarded::prepare(&mut parts.headers, origin);
        parts.headers.remove(HOST);
        let is_grpc = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let has_body = !incoming.is_end_stream();
        let progress = Progress::new();
        let may_pause = version == Version::HTTP_2 || upgrade.is_some();
        let attempt = Attempt {
            replayable: !has_body && parts.method.is_idempotent() && upgrade.is_none(),
            method: parts.method,
            path_and_query,
            headers: parts.headers,
            authority,
            upgrade,
            body: Some(RequestBody::new(incoming, may_pause, progress.clone())),
            progress,
            // A stream of gRPC may have nothing to say for as long as it likes.
            limit: (!is_grpc).then(|| Duration::from_secs(config.response_timeout.into())),
            service: target.service,
        };
        Ok((backend, attempt, on_upgrade))
    }

    fn backend(&self, target: &Target) -> Result<Arc<Backend>, Problem> {
        let backends = self.backends.read().unwrap_or_else(PoisonError::into_inner);
        let service = &target.service;
        backends.find(service, &target.port).map_err(|missing| {
            let text = match missing {
                Missing::Service => format!("service {service} does not exist"),
                Missing::Port => format!("service {service} has no port {}", target.port),
            };
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })
    }
}

/// The host that a request is for, as the client wrote it; empty for HTTP/1.0 without one.
fn authority_of(request: &Request<Incoming>) -> Result<String, Problem> {
    // An absolute target overrides the header (RFC 9112, 3.2.2).
    if let Some(authority) = request.uri().authority() {
        let authority = authority.as_str();
        return Ok(authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned());
    }
    let bad = |text| Problem::new(StatusCode::BAD_REQUEST, text);
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let host = host.to_str().map_err(|_| bad("host is not readable"))?;
            let odd =
                |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@' | '\\' | ',');
            if host.contains(odd) {
                return Err(bad("host is not valid"));
            }
            Ok(host.to_owned())
        }
        (None, _) if request.version() == Version::HTTP_10 => Ok(String::new()),
        (None, _) => Err(bad("request without a host")),
        _ => Err(bad("request with several hosts")),
    }
}

/// A request that is sent until an endpoint has taken it.
struct Attempt {
    method: Method,
    path_and_query: PathAndQuery,
    headers: HeaderMap,
    authority: String,
    upgrade: Option<HeaderValue>,
    /// Whether it may be sent again although an endpoint may have seen it.
    replayable: bool,
    body: Option<RequestBody>,
    progress: Progress,
    /// How long to wait for the response once the body makes no progress.
    limit: Option<Duration>,
    service: Arc<str>,
}

impl Attempt {
    async fn run(&mut self, backend: &Backend) -> Result<(Response<Incoming>, InUse), Problem> {
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut settled = false;
        let mut failure: Option<Problem> = None;
        let mut attempts = 0;
        while attempts < MAX_ATTEMPTS {
            let changed = backend.changed();
            let Some(endpoint) = backend.pick(&tried) else {
                if tried.is_empty() {
                    break;
                }
                if settled || timeout(SETTLE, changed).await.is_err() {
                    break;
                }
                settled = true;
                continue;
            };
            attempts += 1;
            let in_use = endpoint.begin();
            let connection = match endpoint.connect(self.upgrade.is_some()).await {
                Ok(connection) => connection,
                Err(error) => {
                    tried.push(endpoint.address);
                    failure = Some(self.bad_gateway(&endpoint, &error));
                    continue;
                }
            };
            let reused = connection.reused;
            let body = self.body.take().unwrap_or_else(RequestBody::empty);
            let request = self.request(connection.is_http2(), &endpoint, body)?;
            match self.in_time(connection.send(&endpoint, request)).await {
                Ok(Ok(response)) => return Ok((response, in_use)),
                Ok(Err(SendError { error, unsent })) => {
                    if !reused {
                        tried.push(endpoint.address);
                    }
                    failure = Some(self.bad_gateway(&endpoint, &error));
                    match unsent {
                        Some(request) => self.body = Some(request.into_body()),
                        None if self.replayable => {}
                        None => break,
                    }
                }
                Err(problem) => return Err(problem),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let text = format!("service {} has no ready endpoints", self.service);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
        }))
    }

    fn request(
        &self,
        http2: bool,
        endpoint: &Endpoint,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, Problem> {
        let mut headers = self.headers.clone();
        let authority = match self.authority.is_empty() {
            true => endpoint.address.to_string(),
            false => self.authority.clone(),
        };
        let invalid = |_| Problem::new(StatusCode::BAD_REQUEST, "host is not valid");
        let uri = if http2 {
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(authority.parse().map_err(|_| invalid(()))?);
            uri.path_and_query = Some(self.path_and_query.clone());
            Uri::from_parts(uri).map_err(|_| invalid(()))?
        } else {
            forwarded::join_cookies(&mut headers);
            let host = HeaderValue::from_str(&authority).map_err(|_| invalid(()))?;
            headers.insert(HOST, host);
            if let Some(protocol) = &self.upgrade {
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, protocol.clone());
            }
            Uri::from(self.path_and_query.clone())
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        *request.version_mut() = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        Ok(request)
    }

    /// Waits for a response for as long as the body makes progress, and some time longer.
    async fn in_time<T>(&self, response: impl Future<Output = T>) -> Result<T, Problem> {
        let Some(limit) = self.limit else { return Ok(response.await) };
        let mut response = std::pin::pin!(response);
        let mut begun = Instant::now();
        loop {
            tokio::select! {
                response = &mut response => return Ok(response),
                () = sleep_until(begun + limit) => {}
            }
            let last = self.progress.last();
            if last <= begun {
                let text =
                    format!("service {} did not answer in {} s", self.service, limit.as_secs());
                return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, text));
            }
            begun = last;
        }
    }

    fn bad_gateway(&self, endpoint: &Endpoint, error: &dyn std::error::Error) -> Problem {
        let (service, address) = (&self.service, endpoint.address);
        let error = chain(error);
        tracing::debug!(%service, %address, error, "endpoint failed");
        let text = format!("service {service}, endpoint {address}: {error}");
        Problem::new(StatusCode::BAD_GATEWAY, text)
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// What a client is told when there is no response of a backend.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    fn new(status: StatusCode, text: impl Display) -> Self {
        Self { status, text: text.to_string() }
    }

    fn response(self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::text(format!("{}\n", self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        response
    }
}
