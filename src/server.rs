//! What a server is made of, started and stopped in order: keys, store and API, then controllers
//! and scheduler, then the node, if this machine is one.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use apiserver::{Shared, local::Local, request::UserInfo};
use client::{Client, Informers};
use pki::{
    certificate::AltNames,
    cluster::{ClusterPki, Identity},
    kubeconfig::Kubeconfig,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    addons,
    agent::{Agent, AgentError},
    check::{self, Finding},
    config::{Part, ServerOptions},
    lock::{DataLock, LockError},
    ports::{self, PortError},
    systemd,
};

/// The database, within the data directory.
const DATABASE: &str = "server/db/state.db";

/// How long the parts may take to stop before they are left behind.
const STOP: Duration = Duration::from_secs(15);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// A folder cannot be made.
    #[error("cannot make {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The kernel or the machine lack something that a node needs.
    #[error("{0} (`knarr check` tells everything)")]
    Machine(String),
    /// Another server works on the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A port is taken.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Certificates or keys cannot be read, made or written.
    #[error("certificates: {0}")]
    Pki(#[from] pki::Error),
    /// The API server's certificate cannot be used.
    #[error("certificate of the API server: {0}")]
    Tls(#[from] rustls::Error),
    /// The database cannot be used.
    #[error("cannot open the store at {path}: {why}")]
    Store {
        /// The database.
        path: PathBuf,
        /// What the store says.
        why: String,
    },
    /// The API server did not start.
    #[error(transparent)]
    Api(apiserver::StartError),
    /// The node did not start.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

impl ServerError {
    fn of_api(error: apiserver::StartError, data: &Path) -> Self {
        match error {
            apiserver::StartError::Store(why) => {
                Self::Store { path: data.join(DATABASE), why: why.to_string() }
            }
            other => Self::Api(other),
        }
    }
}

/// A running server.
pub(crate) struct Server {
    shared: Arc<Shared>,
    stop: CancellationToken,
    api: JoinHandle<()>,
    parts: Vec<JoinHandle<()>>,
    agent: Option<Agent>,
    _lock: DataLock,
}

impl Server {
    /// Starts all parts; returns when the API answers and, with a node, when the node was started.
    pub(crate) async fn start(options: &ServerOptions) -> Result<Self, ServerError> {
        let begin = Instant::now();
        let data = &options.directories.data_dir;
        for folder in ["server/db", "server/manifests", "agent/images"] {
            make_folder(&data.join(folder))?;
        }
        let lock = DataLock::take(data)?;
        // Beside the rest: most of what it tries takes the kernel's time and not this thread's.
        let checked = {
            let options = options.clone();
            tokio::task::spawn_blocking(move || match options.disable_agent {
                true => Vec::new(),
                false => check::essentials(&options),
            })
        };
        let address = SocketAddr::new(options.bind_address, options.https_listen_port);
        let listener = ports::bind(address, "the API server", "https-listen-port").await?;
        let node_ip = crate::node::address(options);
        let pki = ClusterPki::load_or_create(&data.join("server/tls"))?;
        let serving = pki.serving(names(options, node_ip))?;
        let stop = CancellationToken::new();
        let config = api_config(options, &pki, node_ip)?;
        let shared = Shared::open(config, authentication(&pki), stop.clone());
        let shared = shared.await.map_err(|error| ServerError::of_api(error, data))?;
        write_kubeconfig(options, &pki)?;
        let tls = apiserver::server_config(tls_identity(&pki, &serving)?)?;
        let api = tokio::spawn(serve(shared.clone(), listener, tls, stop.clone()));
        info!(%address, milliseconds = begin.elapsed().as_millis(), "api server started");

        if let Some(first) = checked.await.unwrap_or_default().first() {
            let Finding { item, found, advice, .. } = first;
            return Err(ServerError::Machine(format!("{item}: {found}; {advice}")));
        }
        let mut server = Self { shared, stop, api, parts: Vec::new(), agent: None, _lock: lock };
        let manager = server.start_control_plane(options, &pki);
        addons::make(&manager, options).await;
        if !options.disable_agent {
            server.agent =
                Some(Agent::start(options, &pki, |user, agent| server.client(user, agent)).await?);
        }
        systemd::ready();
        Ok(server)
    }

    /// A client with the identity of a component, without a detour over the network.
    fn client(&self, user: &UserInfo, agent: &'static str) -> Client {
        Client::new(Arc::new(Local::new(self.shared.clone(), user.clone())), agent)
    }

    /// Starts controllers and scheduler; returns the client of the controllers.
    fn start_control_plane(&mut self, options: &ServerOptions, pki: &ClusterPki) -> Client {
        let manager = UserInfo::component("system:kube-controller-manager", &["system:masters"]);
        let informers =
            Informers::new(self.client(&manager, "kube-controller-manager"), self.stop.clone());
        let config = controllers::Config {
            root_ca: pki.authority.pem(),
            cluster_cidr: options.cluster_cidr.to_string(),
            service_lb: !options.disabled(Part::Servicelb),
            signer: Some(pki.authority.clone()),
            manifests: Some(options.directories.data_dir.join("server/manifests")),
        };
        let context = controllers::Context::new(informers.clone(), config, self.stop.clone());
        self.parts.push(tokio::spawn(controllers::run(context)));
        if !options.disabled(Part::Scheduler) {
            self.parts.push(tokio::spawn(scheduler::run(informers.clone(), self.stop.clone())));
        }
        if !options.disabled(Part::Ingress) {
            let edge = UserInfo::component("system:knarr:edge", &[]);
            let informers = Informers::new(self.client(&edge, "knarr-edge"), self.stop.clone());
            self.parts.push(tokio::spawn(ingress::status::run(informers, self.stop.clone())));
        }
        informers.client().clone()
    }

    /// Stops all parts, the node's first. Pods go on running.
    pub(crate) async fn stop(self) {
        systemd::stopping();
        if let Some(agent) = self.agent {
            agent.stop().await;
        }
        self.stop.cancel();
        let ended = async {
            for part in self.parts {
                let _ = part.await;
            }
            let _ = self.api.await;
        };
        if tokio::time::timeout(STOP, ended).await.is_err() {
            warn!("some parts did not stop in time");
        }
        let store = self.shared.store.clone();
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            warn!("the store did not close");
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) {
    if let Err(error) = apiserver::serve(shared, listener, tls, stop).await {
        warn!(%error, "api server ended");
    }
}

fn make_folder(path: &Path) -> Result<(), ServerError> {
    std::fs::create_dir_all(path)
        .map_err(|source| ServerError::Folder { path: path.to_owned(), source })
}

/// All names by which clients inside and outside the cluster reach the API server.
fn names(options: &ServerOptions, node_ip: IpAddr) -> AltNames {
    let domain = &options.cluster_domain;
    let mut names = vec![
        "localhost".to_owned(),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("kubernetes.default.svc.{domain}"),
        crate::node::name(options),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        node_ip.to_string(),
        options.service_cidr.nth(1).to_string(),
    ];
    if !options.bind_address.is_unspecified() {
        names.push(options.bind_address.to_string());
    }
    names.extend(options.tls_san.iter().cloned());
    AltNames::new(names)
}

fn api_config(
    options: &ServerOptions,
    pki: &ClusterPki,
    node_ip: IpAddr,
) -> Result<apiserver::Config, ServerError> {
    let advertised = match options.bind_address {
        any if any.is_unspecified() => node_ip,
        given => given,
    };
    let ports = options.service_node_port_range;
    Ok(apiserver::Config {
        database: options.directories.data_dir.join(DATABASE),
        advertise: SocketAddr::new(advertised, options.https_listen_port),
        service_cidr: options.service_cidr.to_string(),
        cluster_cidr: options.cluster_cidr.to_string(),
        cluster_domain: options.cluster_domain.clone(),
        node_ports: ports.first..=ports.last,
        kubelet_tls: Some(crate::tls::client(&pki.authority, &pki.kubelet_client()?)?),
        front_proxy: Some(client_identity(&pki.front_proxy_client()?)?),
    })
}

fn authentication(pki: &ClusterPki) -> apiserver::authentication::Options {
    apiserver::authentication::Options {
        client_authorities: vec![pki.authority.der().to_vec()],
        front_proxy_authorities: vec![pki.front_proxy.der().to_vec()],
        front_proxy_names: vec!["front-proxy-client".to_owned()],
        tokens: pki.tokens.clone(),
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
    }
}

fn tls_identity(pki: &ClusterPki, serving: &Identity) -> Result<apiserver::Identity, ServerError> {
    let (chain, key) = crate::tls::material(serving)?;
    let client_authorities = vec![pki.authority.certificate().subject_der.clone()];
    Ok(apiserver::Identity { chain, key, client_authorities })
}

fn client_identity(identity: &Identity) -> Result<apiserver::ClientIdentity, ServerError> {
    let (chain, key) = crate::tls::material(identity)?;
    Ok(apiserver::ClientIdentity { chain, key })
}

fn write_kubeconfig(options: &ServerOptions, pki: &ClusterPki) -> Result<(), ServerError> {
    let host = match options.bind_address {
        any if any.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        given => given,
    };
    let server = format!("https://{}", SocketAddr::new(host, options.https_listen_port));
    let kubeconfig = Kubeconfig {
        cluster: "default",
        server: &server,
        authority: &pki.authority.pem(),
        user: "default",
        identity: &pki.admin()?,
    };
    kubeconfig.write(&options.write_kubeconfig, options.write_kubeconfig_mode)?;
    Ok(())
}
