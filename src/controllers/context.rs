//! What every controller is given.

use std::{future::Future, path::PathBuf, sync::Arc};

use apimachinery::Key;
use client::{
    Client, Informers, WorkQueue,
    controller::{Action, ReconcileError},
    events::Recorder,
};
use pki::Authority;
use tokio_util::sync::CancellationToken;

/// Settings of the cluster that controllers need.
#[derive(Clone, Default)]
pub struct Config {
    /// PEM of the CA that signs the API server's certificate, published in every namespace.
    pub root_ca: String,
    /// Addresses of pods, of which each node gets a part.
    pub cluster_cidr: String,
    /// Whether LoadBalancer services get the addresses of the nodes.
    pub service_lb: bool,
    /// Signs certificates for those who ask and may, if anything does.
    pub signer: Option<Arc<Authority>>,
    /// Folder whose manifests are applied, if any are.
    pub manifests: Option<PathBuf>,
}

/// What a controller works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Shared caches.
    pub informers: Informers,
    /// Requests, with the identity of the controllers.
    pub client: Client,
    /// Events, in the name of the controller.
    pub recorder: Recorder,
    /// Settings.
    pub config: Arc<Config>,
    /// Ends the controller.
    pub stop: CancellationToken,
    name: &'static str,
}

impl Context {
    /// A context over `informers`, ended by `stop`.
    pub fn new(informers: Informers, config: Config, stop: CancellationToken) -> Self {
        let client = informers.client().clone();
        let recorder = Recorder::new(client.clone(), "controllermanager", None);
        Self { informers, client, recorder, config: Arc::new(config), stop, name: "" }
    }

    /// The same for the controller `name`, which its events come from.
    pub(crate) fn named(&self, name: &'static str) -> Self {
        Self { recorder: self.recorder.renamed(name), name, ..self.clone() }
    }

    /// Runs the controller's loops: `workers` at a time take keys from `queue` to `reconcile`.
    pub(crate) async fn work<F, R>(&self, queue: Arc<WorkQueue<Key>>, workers: usize, reconcile: F)
    where
        F: Fn(Key) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Action, ReconcileError>> + Send,
    {
        client::controller::run(self.name, queue, workers, self.stop.clone(), reconcile).await;
    }
}
