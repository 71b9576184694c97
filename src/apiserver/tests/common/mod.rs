//! A server on a loopback port with a folder of its own, and a client without any library's manners.

#![allow(dead_code, reason = "not every test uses every helper")]

use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc};

use apiserver::{Config, Identity, Shared, authentication, local::Local, request::UserInfo};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use pki::{cluster::ClusterPki, kubeconfig::Kubeconfig, pem};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A running server.
pub struct Server {
    pub shared: Arc<Shared>,
    pub address: SocketAddr,
    pub kubeconfig: String,
    pub stop: CancellationToken,
    pub task: JoinHandle<std::io::Result<()>>,
    pub dir: tempfile::TempDir,
}

/// Starts a server on a free port.
pub async fn start() -> Server {
    start_on("127.0.0.1:0").await
}

/// Starts a server.
pub async fn start_on(address: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (config, options, tls, kubeconfig) = prepare(dir.path(), address);
    let stop = CancellationToken::new();
    let shared = Shared::open(config, options, stop.clone()).await.unwrap();
    let task = tokio::spawn(apiserver::serve(shared.clone(), listener, tls, stop.clone()));
    let server = Server { shared, address, kubeconfig, stop, task, dir };
    // What a controller makes in every namespace, without which no pod is admitted.
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.post(accounts, &serde_json::json!({"metadata": {"name": "default"}})).await;
    server
}

type Prepared = (Config, authentication::Options, Arc<rustls::ServerConfig>, String);

fn prepare(dir: &Path, address: SocketAddr) -> Prepared {
    let pki = ClusterPki::load_or_create(&dir.join("tls")).unwrap();
    let names = pki::AltNames::new(["127.0.0.1", "localhost", "kubernetes"]);
    let serving = pki.serving(names).unwrap();
    let admin = pki.admin().unwrap();
    let kubeconfig = Kubeconfig {
        cluster: "test",
        server: &format!("https://{address}"),
        authority: &pki.authority.pem(),
        user: "admin",
        identity: &admin,
    }
    .to_yaml();
    let chain = pem::certificates(&serving.certificate).unwrap();
    let tls = apiserver::server_config(Identity {
        chain: chain.into_iter().map(CertificateDer::from).collect(),
        key: PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap(),
        client_authorities: Vec::new(),
    })
    .unwrap();
    let options = authentication::Options {
        client_authorities: vec![pki.authority.der().to_vec()],
        front_proxy_authorities: Vec::new(),
        front_proxy_names: Vec::new(),
        tokens: pki.tokens,
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
    };
    let config = Config {
        database: dir.join("state.db"),
        advertise: address,
        service_cidr: "10.43.0.0/16".to_owned(),
        cluster_cidr: "10.42.0.0/16".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        node_ports: 30000..=32767,
        kubelet_tls: None,
        front_proxy: None,
    };
    (config, options, tls, kubeconfig)
}

impl Server {
    /// The keys of the cluster.
    pub fn pki(&self) -> ClusterPki {
        ClusterPki::load_or_create(&self.dir.path().join("tls")).unwrap()
    }

    /// Starts another TLS server, with a certificate of the cluster for `name`, on loopback.
    pub async fn neighbour<F, A>(&self, name: &str, answer: F) -> SocketAddr
    where
        F: Fn(http::Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<http::Response<Full<Bytes>>, Infallible>> + Send + 'static,
    {
        let identity = self.pki().node_serving("neighbour", pki::AltNames::new([name])).unwrap();
        let chain = pem::certificates(&identity.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.into_iter().map(Into::into).collect(), key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer))
                        .await;
                });
            }
        });
        address
    }

    /// The API as an administrator inside the process.
    pub fn admin(&self) -> Local {
        Local::new(self.shared.clone(), UserInfo::component("admin", &["system:masters"]))
    }

    /// Sends a request and reads a JSON answer.
    pub async fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .header("user-agent", "test/1")
            .body(Bytes::from(body.to_owned()))
            .unwrap();
        let response = self.admin().handle(request).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (code, value)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, "application/json", &body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("PUT", path, "application/json", &body.to_string()).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        self.send("PATCH", path, &format!("application/{kind}"), &body.to_string()).await
    }

    pub async fn delete(&self, path: &str, body: &Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send("DELETE", path, "application/json", &text).await
    }
}
