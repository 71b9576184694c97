//! The kubelet as a whole: what it is made of, how it starts and stops.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use client::{Informers, Scope, events::Recorder};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    node::v1::RuntimeClass,
};
use runtime::{Runtime, RuntimeEvent};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    api::Server,
    config::KubeletConfig,
    images::{Images, gc},
    network::PodNetwork,
    node::{machine::Machine, watcher::Watcher},
    objects::{Changed, Objects},
    pods::{admission::Ledger, registry::Registry},
    shared::Shared,
    volumes::{Folders, certificates::Certificates, tokens::Tokens, trust_bundles::TrustBundles},
};

/// How often unused images are looked for.
const IMAGE_GC: Duration = Duration::from_secs(300);

/// Why a kubelet could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder or a socket could not be made.
    #[error("{context}: {source}")]
    Io {
        /// What was tried, on what.
        context: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What a kubelet works with.
pub struct Dependencies {
    /// Informers of a client that has the rights of this node.
    pub informers: Informers,
    /// The container runtime.
    pub runtime: Runtime,
    /// What happens in it.
    pub events: mpsc::Receiver<RuntimeEvent>,
    /// The pod network.
    pub network: Arc<dyn PodNetwork>,
}

/// A running kubelet. Pods run on when it is stopped or dropped.
pub struct Kubelet {
    registry: Registry,
    tasks: TaskTracker,
    stop: CancellationToken,
    changed: Arc<Notify>,
    address: Option<SocketAddr>,
}

impl Kubelet {
    /// Starts a kubelet: registers the node, adopts the pods that run, follows what is bound to the
    /// node from now on.
    ///
    /// # Errors
    /// When its folders cannot be made or its port is taken.
    pub async fn start(
        config: KubeletConfig,
        dependencies: Dependencies,
    ) -> Result<Self, StartError> {
        let io = |context: String| move |source| StartError::Io { context, source };
        let Dependencies { informers, runtime, events, network } = dependencies;
        let client = informers.client().clone();
        let (data_dir, log_dir) = (config.data_dir.clone(), config.log_dir.clone());
        let folders = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&log_dir)
                .map_err(io(format!("folder of logs {}", log_dir.display())))?;
            Folders::open(&data_dir).map_err(io(format!("folders in {}", data_dir.display())))
        })
        .await
        .unwrap_or_else(|error| Err(io("folders".to_owned())(std::io::Error::other(error))))?;

        let recorder = Recorder::new(client.clone(), "kubelet", Some(&config.node_name));
        let registry = Registry::default();
        let notify = registry.clone();
        let data_changed: Changed = Arc::new(move |uid: &str| notify.data_changed(uid));
        let objects = Objects::new(client.clone(), data_changed.clone());
        let store = runtime.images().clone();
        let images =
            Images::new(store, recorder.clone(), config.max_parallel_pulls, &config.data_dir);
        let own = Scope::fields(format!("metadata.name={}", config.node_name));
        let here = Scope::fields(format!("spec.nodeName={}", config.node_name));
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let node = informers.scoped::<Node>(own);
        let certificates = Certificates::new(
            client.clone(),
            recorder.clone(),
            node.clone(),
            &config.node_name,
            data_changed.clone(),
        );
        let shared = Arc::new(Shared {
            machine: Machine::read(&config),
            tokens: Tokens::new(client.clone()),
            certificates,
            trust_bundles: TrustBundles::new(informers.clone(), data_changed),
            services: informers.of::<Service>(),
            node,
            runtime_classes: informers.of::<RuntimeClass>(),
            ledger: Ledger::default(),
            starts: Semaphore::new(processors * 2),
            began: Timestamp::now(),
            client,
            recorder,
            runtime,
            network,
            objects,
            images,
            folders,
            config,
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let pods = informers.scoped::<Pod>(here);
        let server = Server::new(shared.clone(), pods.clone(), stop.clone());
        let address = server.listen().await.map_err(io("kubelet API".to_owned()))?;
        let changed = Arc::new(Notify::new());
        let port = address.map(|address| address.port());
        let watcher = Watcher::new(shared.clone(), port, changed.clone());
        tasks.spawn(watcher.run(stop.clone()));
        tasks.spawn(registry.clone().pass_events(events, stop.clone()));
        tasks.spawn(collect_images(shared.clone(), stop.clone()));
        let (registry_of_pods, until) = (registry.clone(), stop.clone());
        tasks.spawn(async move {
            let work = async {
                pods.synced().await;
                registry_of_pods.follow(&shared, &pods);
                registry_of_pods.remove_orphans(&shared).await;
                info!(pods = registry_of_pods.len(), "pods of this node are known");
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = work => {}
                () = until.cancelled() => {}
            }
        });
        Ok(Self { registry, tasks, stop, changed, address })
    }

    /// Where the kubelet API listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Something that the node's readiness depends on has changed: the pod network, for one.
    pub fn node_changed(&self) {
        self.changed.notify_one();
        self.registry.wake_all();
    }

    /// Stops. The pods run on, and are adopted by the next kubelet.
    pub async fn stop(self) {
        self.stop.cancel();
        self.registry.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn collect_images(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(IMAGE_GC) => {}
            () = stop.cancelled() => return,
        }
        gc::collect(&shared.images, &shared.config).await;
    }
}
