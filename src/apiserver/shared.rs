//! What all requests share: the store, the resources, who may come in and what they may do.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use apimachinery::{GroupResource, Key, Object};
use storage::{Collection, OpenError, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    admission,
    aggregator::{self, Aggregator},
    allocators::{Allocators, CidrError},
    authentication::{self, Authenticator},
    authorization::Authorizer,
    bootstrap, crd, expressions,
    http::client::ClientIdentity,
    metrics::Metrics,
    registry::{catalog, resources::Resources},
};

/// What a server is told when it starts.
pub struct Config {
    /// The database file.
    pub database: PathBuf,
    /// Where clients reach the API: the address that the `kubernetes` Service points to.
    pub advertise: SocketAddr,
    /// Addresses of Services, such as `10.43.0.0/16`.
    pub service_cidr: String,
    /// Addresses of pods, such as `10.42.0.0/16`.
    pub cluster_cidr: String,
    /// The DNS domain of the cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// Ports that Services may take on nodes.
    pub node_ports: RangeInclusive<u16>,
    /// How kubelets are reached: their CA and the certificate that this server shows them.
    pub kubelet_tls: Option<Arc<rustls::ClientConfig>>,
    /// What aggregated API servers know this server by, and take its word for who asks.
    pub front_proxy: Option<ClientIdentity>,
}

/// State shared by all requests.
pub struct Shared {
    /// What the server was told.
    pub config: Config,
    /// Where objects are.
    pub store: Store,
    /// Which resources there are.
    pub resources: Resources,
    /// Who asks.
    pub authenticator: Authenticator,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// What other servers serve.
    pub aggregator: Aggregator,
    /// Cluster addresses and node ports of Services.
    pub allocators: Allocators,
    /// What configures admission, ready to be used.
    pub(crate) compiled: admission::Compiled,
    /// Counts of what was asked.
    pub metrics: Metrics,
    /// Cancelled when the server stops: watches and streams end then.
    pub stop: CancellationToken,
    ready: AtomicBool,
    /// For what outlives a request.
    me: Weak<Shared>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] OpenError),
    /// The addresses of Services are no network.
    #[error("bad service CIDR: {0}")]
    ServiceCidr(#[from] CidrError),
    /// An authority or key could not be read.
    #[error("cannot set up authentication: {0}")]
    Authentication(#[from] authentication::Error),
    /// What a cluster holds from the beginning could not be written.
    #[error("cannot write the first objects: {0}")]
    Bootstrap(String),
    /// The schema of a built-in kind is missing.
    #[error("no schema for {0}")]
    Schema(String),
}

impl Shared {
    /// Opens the store, loads every built-in and custom resource and writes what a cluster holds
    /// from the beginning.
    ///
    /// # Errors
    /// When the store or a collection cannot be opened, or a key or certificate is none.
    pub async fn open(
        config: Config,
        authentication: authentication::Options,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let path = config.database.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&path))
            .await
            .map_err(|_| OpenError::Closed)??;
        let resources = Resources::default();
        resources.replace(catalog::builtin(&store).await?);
        let authenticator = Authenticator::open(&store, authentication).await?;
        let authorizer = Authorizer::open(&store).await?;
        let services =
            resources.table().resource("", "services").and_then(|r| r.collection.clone());
        let services = services.ok_or_else(|| StartError::Schema("services".to_owned()))?;
        let allocators =
            Allocators::new(&config.service_cidr, config.node_ports.clone(), &services)?;
        let server = Arc::new_cyclic(|me| Self {
            config,
            store,
            resources,
            authenticator,
            authorizer,
            aggregator: Aggregator::default(),
            allocators,
            compiled: admission::Compiled::default(),
            metrics: Metrics::default(),
            stop,
            ready: AtomicBool::new(false),
            me: me.clone(),
        });
        bootstrap::run(&server).await.map_err(|status| StartError::Bootstrap(status.message))?;
        let _ = crd::controller::reconcile(&server).await;
        tokio::spawn(crd::controller::run(server.clone()));
        tokio::spawn(aggregator::controller::run(server.clone()));
        tokio::spawn(expressions::checking::run(server.clone()));
        server.ready.store(true, Ordering::Release);
        Ok(server)
    }

    /// The server, to be held for longer than a request.
    pub fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a server is only made within its Arc")
    }

    /// Whether the server has written what a cluster holds from the beginning.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The stored objects of a resource; `None` where there is no such resource or it stores
    /// nothing.
    pub fn collection(&self, group: &str, resource: &str) -> Option<Collection> {
        self.resources.table().resource(group, resource)?.collection.clone()
    }

    /// One stored object. `namespace` is empty for cluster-scoped resources.
    pub fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        self.collection(group, resource)?.get(&Key::new(namespace, name))
    }

    /// The resource of this group and name, custom ones included.
    pub fn resource(
        &self,
        resource: &GroupResource,
    ) -> Option<Arc<crate::registry::resource::Resource>> {
        self.resources.get(resource)
    }
}
