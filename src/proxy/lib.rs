//! kube-proxy's half that knows the API: follows Services and EndpointSlices and tells the service
//! proxy of the node (`network::proxy`), which knows the kernel.

mod service;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use apimachinery::{Key, Object};
use client::{Informer, Informers, WorkQueue, informer::parse_or_warn};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use network::proxy::{Change, Config, Error, Handle, Proxy, ServicePort};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The label that names the service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Index of slices by `namespace/service`.
const BY_SERVICE: &str = "service";
/// How often it is checked that nobody removed the table. A check is one system call.
const VERIFY: Duration = Duration::from_secs(60);
/// Pause before a failed change is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The service proxy of a node, fed from the API.
pub struct ServiceProxy {
    node: String,
    services: Informer,
    slices: Informer,
    queue: Arc<WorkQueue<Key>>,
    handle: Handle,
    /// What was last told of each service, by port.
    told: HashMap<Key, BTreeMap<String, ServicePort>>,
    /// Whether the kernel lacks some of what was told.
    failed: bool,
}

impl ServiceProxy {
    /// Loads all services into the kernel in one transaction; what an earlier process left there
    /// goes on working until then. `node` is the name of this node.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn start(informers: &Informers, node: &str, config: Config) -> Result<Self, Error> {
        let services = informers.of::<Service>();
        let slices = informers.of::<EndpointSlice>();
        slices.add_index(BY_SERVICE, |slice| {
            service_of(slice).map(|key| key.to_string().into()).into_iter().collect()
        });
        Informers::synced(&[&services, &slices]).await;
        let queue = Arc::new(WorkQueue::new());
        let mut told = HashMap::new();
        for service in services.list() {
            let ports = ports_of(&services, &slices, node, &service.key);
            told.insert(service.key.clone(), ports);
        }
        let all: Vec<ServicePort> =
            told.values().flat_map(|ports| ports.values().cloned()).collect();
        debug!(ports = all.len(), "loading services");
        let proxy = tokio::task::spawn_blocking(move || Proxy::start(config, all))
            .await
            .unwrap_or(Err(Error::Stopped))?;
        // What changed since is queued by the handlers, which are told of every object first.
        let adding = queue.clone();
        services.on_change(move |change| adding.add(change.object().key.clone()));
        let adding = queue.clone();
        slices.on_change(move |change| {
            change
                .previous()
                .and_then(|old| service_of(old))
                .into_iter()
                .for_each(|key| adding.add(key));
            service_of(change.object()).into_iter().for_each(|key| adding.add(key));
        });
        let node = node.to_owned();
        Ok(Self { node, services, slices, queue, handle: Handle::new(proxy), told, failed: false })
    }

    /// The proxy in the kernel, to which host ports are added as well.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Follows changes until `stop`. The services in the kernel stay.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut verify = tokio::time::interval(VERIFY);
        verify.tick().await;
        loop {
            let queue = self.queue.clone();
            tokio::select! {
                key = queue.next() => match key {
                    Some(key) => self.update(key).await,
                    None => return,
                },
                _ = verify.tick() => {
                    if let Err(error) = self.handle.verify().await {
                        warn!(%error, "service table not repaired");
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }

    /// Tells the kernel what is new about a service and about all others that wait.
    async fn update(&mut self, first: Key) {
        let mut keys = vec![first];
        while !self.queue.is_empty() {
            match self.queue.next().await {
                Some(key) => keys.push(key),
                None => break,
            }
        }
        let mut changes = Vec::new();
        for key in &keys {
            let ports = ports_of(&self.services, &self.slices, &self.node, key);
            let before = self.told.get(key);
            changes.extend(difference(before, &ports));
            match ports.is_empty() {
                true => self.told.remove(key),
                false => self.told.insert(key.clone(), ports),
            };
        }
        if self.failed || !changes.is_empty() {
            let applied = self.handle.apply(changes).await;
            self.failed = applied.is_err();
            if let Err(error) = applied {
                // The proxy remembers what it was told; it only has to be called again.
                warn!(%error, "services not updated");
                self.queue.add_after(keys[0].clone(), RETRY);
            }
        }
        for key in &keys {
            self.queue.done(key);
        }
    }
}

fn service_of(slice: &Object) -> Option<Key> {
    Some(Key::new(slice.key.namespace.clone(), slice.label(SERVICE_NAME)?))
}

/// The ports of a service as they should be in the kernel; none if it is gone.
fn ports_of(
    services: &Informer,
    slices: &Informer,
    node: &str,
    key: &Key,
) -> BTreeMap<String, ServicePort> {
    let Some(service) = services.get_as::<Service>(&key.namespace, &key.name) else {
        return BTreeMap::new();
    };
    let slices: Vec<EndpointSlice> = slices
        .indexed(BY_SERVICE, &key.to_string())
        .iter()
        .filter_map(|slice| parse_or_warn(slice))
        .collect();
    let ports = service::ports(&service, &slices, node);
    ports.into_iter().map(|port| (port.id.clone(), port)).collect()
}

fn difference(
    before: Option<&BTreeMap<String, ServicePort>>,
    now: &BTreeMap<String, ServicePort>,
) -> Vec<Change> {
    let gone = before.into_iter().flat_map(BTreeMap::keys).filter(|id| !now.contains_key(*id));
    let new =
        now.iter().filter(|(id, port)| before.and_then(|before| before.get(*id)) != Some(port));
    gone.map(|id| Change::Remove(id.clone()))
        .chain(new.map(|(_, port)| Change::Upsert(port.clone())))
        .collect()
}
