//! The HTTPS server of the kubelet API and its routes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apimachinery::{Key, Status};
use bytes::Bytes;
use client::Informer;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use super::{
    auth::{self, Caller},
    exec, logs, port_forward, stats,
};
use crate::{podspec::PodExt, shared::Shared};

/// The body of an answer.
pub(super) type Body = BoxBody<Bytes, std::convert::Infallible>;
/// An answer.
pub(super) type Answer = Response<Body>;

/// How long a client may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The kubelet API.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) shared: Arc<Shared>,
    /// The pods of this node.
    pub(super) pods: Informer,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// The query of a request: names with their values in order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        Self(
            text.split('&')
                .filter(|part| !part.is_empty())
                .map(|part| {
                    let (name, value) = part.split_once('=').unwrap_or((part, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    /// Flags are `1` or `true`.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "true"))
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%')
            .then(|| after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer of plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    let body = Full::new(Bytes::from(text.into())).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

/// An answer of JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut answer = Response::new(Full::new(Bytes::from(bytes)).boxed());
            let kind = header::HeaderValue::from_static("application/json");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// A request that goes to a container or pod.
pub(super) struct Target {
    pub(super) pod: Pod,
    pub(super) container: String,
}

impl Server {
    pub(crate) fn new(shared: Arc<Shared>, pods: Informer, stop: CancellationToken) -> Self {
        Self { shared, pods, tasks: TaskTracker::new(), stop }
    }

    /// Listens. Answers the address.
    pub(crate) async fn listen(&self) -> std::io::Result<Option<SocketAddr>> {
        let config = &self.shared.config;
        let Some(identity) = &config.serving else { return Ok(None) };
        let tls = auth::tls(identity).map_err(std::io::Error::other)?;
        let listener = TcpListener::bind((config.address, config.port)).await?;
        let address = listener.local_addr()?;
        info!(%address, "kubelet API listens");
        let server = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = server.clone().accept(listener, TlsAcceptor::from(tls)) => {}
                () = server.stop.cancelled() => {}
            }
        });
        Ok(Some(address))
    }

    async fn accept(self, listener: TcpListener, tls: TlsAcceptor) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of handles, mostly; others have to be closed first.
                    debug!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (server, tls) = (self.clone(), tls.clone());
            self.tasks.spawn(async move {
                let stop = server.stop.clone();
                let serve = async {
                    // Without this a keystroke's echo waits for the next acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => return debug!(%peer, %error, "handshake failed"),
                        Err(_) => return debug!(%peer, "handshake timed out"),
                    };
                    let caller = auth::caller(stream.get_ref().1.peer_certificates());
                    let service = hyper::service::service_fn(move |request| {
                        let server = server.clone();
                        async move {
                            Ok::<_, std::convert::Infallible>(server.answer(caller, request).await)
                        }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    if let Err(error) = connection.await {
                        debug!(%peer, %error, "connection failed");
                    }
                };
                tokio::select! {
                    () = serve => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    async fn answer(&self, caller: Caller, request: Request<Incoming>) -> Answer {
        match caller {
            Caller::Admin => {}
            Caller::Known => {
                return text(StatusCode::FORBIDDEN, "Forbidden");
            }
            Caller::Anonymous => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        }
        let path = request.uri().path().to_owned();
        let parts: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let get = request.method() == Method::GET;
        match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] if get => text(StatusCode::OK, "ok"),
            ["pods"] if get => self.list_pods(),
            ["stats", "summary"] if get => json(&stats::summary(&self.shared).await),
            ["metrics"] if get => text(StatusCode::OK, stats::own_metrics(&self.shared)),
            ["metrics", "resource"] if get => {
                text(StatusCode::OK, stats::resource_metrics(&self.shared).await)
            }
            ["configz"] if get => json(&self.configz()),
            ["containerLogs", namespace, pod, container] if get => {
                self.container_logs(namespace, pod, container, &query).await
            }
            ["exec", namespace, pod, rest @ ..] => match self.target(namespace, pod, rest) {
                Ok(target) => exec::exec(self, target, &query, request).await,
                Err(answer) => answer,
            },
            ["attach", namespace, pod, rest @ ..] => match self.target(namespace, pod, rest) {
                Ok(target) => exec::attach(self, target, &query, request).await,
                Err(answer) => answer,
            },
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                match self.pod(namespace, pod) {
                    Some(pod) => port_forward::serve(self, pod, &query, request).await,
                    None => text(StatusCode::NOT_FOUND, "pod does not exist"),
                }
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Pod> {
        self.pods.get_as(namespace, name)
    }

    fn target(&self, namespace: &str, pod: &str, rest: &[&str]) -> Result<Target, Answer> {
        let (uid, container) = match rest {
            [container] => (None, *container),
            [uid, container] => (Some(*uid), *container),
            _ => return Err(text(StatusCode::NOT_FOUND, "404 page not found")),
        };
        let pod = self
            .pod(namespace, pod)
            .filter(|pod| uid.is_none_or(|uid| pod.uid() == uid))
            .ok_or_else(|| text(StatusCode::NOT_FOUND, "pod does not exist"))?;
        Ok(Target { pod, container: container.to_owned() })
    }

    fn list_pods(&self) -> Answer {
        // The objects are JSON already; only the frame around them is made here.
        let mut body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
        for (at, object) in self.pods.list().iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&object.body);
        }
        body.extend_from_slice(b"]}");
        let mut answer = Response::new(Full::new(Bytes::from(body)).boxed());
        let kind = header::HeaderValue::from_static("application/json");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        answer
    }

    fn configz(&self) -> serde_json::Value {
        let config = &self.shared.config;
        let dns: Vec<String> = config.cluster_dns.iter().map(ToString::to_string).collect();
        serde_json::json!({"kubeletconfig": {
            "port": config.port,
            "clusterDomain": config.cluster_domain,
            "clusterDNS": dns,
            "maxPods": config.max_pods,
            "podPidsLimit": config.pod_pids_limit,
            "cgroupsPerQOS": true,
            "cgroupRoot": config.cgroup_root,
            "seccompDefault": config.seccomp_default,
            "imageGCHighThresholdPercent": config.image_gc_high,
            "imageGCLowThresholdPercent": config.image_gc_low,
            "containerLogMaxSize": config.log_max_size.to_string(),
            "containerLogMaxFiles": config.log_max_files,
            "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
        }})
    }

    async fn container_logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: &Query,
    ) -> Answer {
        let options = match logs::Options::parse(query) {
            Ok(options) => options,
            Err(status) => return text(status, r#"{"message": "Invalid request."}"#),
        };
        let Some(object) = self.pods.get(&Key::new(namespace, name)) else {
            return text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
        };
        let Ok(pod) = object.parse::<Pod>() else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "pod cannot be read");
        };
        if pod.find_container(container).is_none() {
            let message = format!("container {container:?} not found in pod {name:?}");
            return text(StatusCode::NOT_FOUND, message);
        }
        let source = match logs::source(&self.shared, &pod, container, options.previous) {
            Ok(source) => source,
            Err(message) => return text(StatusCode::BAD_REQUEST, message),
        };
        let (sender, receiver) = mpsc::channel(16);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = logs::stream(source, options, sender) => {}
                () = stop.cancelled() => {}
            }
        });
        let frames = futures::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        })
        .map(|bytes: Bytes| Ok(Frame::data(bytes)));
        let mut answer = Response::new(BodyExt::boxed(StreamBody::new(frames)));
        let kind = header::HeaderValue::from_static("text/plain");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        answer
    }
}

/// A Status as the body of a failed streaming request.
pub(super) fn failure(code: u16, reason: &str, message: &str) -> Answer {
    let status = Status::failure(code, reason, message);
    let mut answer = json(&status.to_value());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}
