//! EndpointSlice: keeps the addresses of the pods behind each Service that has a selector.

mod endpoints;
mod reconcile;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use apimachinery::{Key, Object};
use client::{
    Change, Error, Informer, Informers, PostParams, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
    is_conflict, is_not_found,
};
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};

use self::endpoints::{Backend, Ports};
use crate::{Context, ownership::controller_reference, pod_control::is_terminating};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const OURSELVES: &str = "endpointslice-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Index of our slices by `namespace/service`.
const BY_SERVICE: &str = "service";

/// Selectors by namespace and service, so that a changed pod finds its services without a parse.
type Selectors = HashMap<Box<str>, HashMap<Box<str>, BTreeMap<String, String>>>;

struct Controller {
    context: Context,
    services: Informer,
    pods: Informer,
    nodes: Informer,
    slices: Informer,
    selectors: RwLock<Selectors>,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        services: context.informers.of::<Service>(),
        pods: context.informers.of::<Pod>(),
        nodes: context.informers.of::<Node>(),
        slices: context.informers.of::<EndpointSlice>(),
        selectors: RwLock::default(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    controller.slices.add_index(BY_SERVICE, |slice| {
        service_of(slice).map(|key| key.to_string().into()).into_iter().collect()
    });
    let this = controller.clone();
    controller.services.on_change(move |change| this.service_changed(change));
    let this = controller.clone();
    controller.pods.on_change(move |change| this.pod_changed(change));
    let queue = controller.queue.clone();
    controller.slices.on_change(move |change| {
        // What others did to a slice of ours is put right; our own writes settle in one more look.
        if let Some(service) = service_of(change.object()) {
            queue.add(service);
        }
    });
    let (services, pods) = (&controller.services, &controller.pods);
    Informers::synced(&[services, pods, &controller.nodes, &controller.slices]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(controller.queue.clone(), 5, work).await;
}

/// The service whose slice this is, if it is ours.
fn service_of(slice: &Object) -> Option<Key> {
    let service = slice.label(SERVICE_NAME)?;
    (slice.label(MANAGED_BY) == Some(OURSELVES))
        .then(|| Key::new(slice.key.namespace.clone(), service))
}

impl Controller {
    fn service_changed(&self, change: &Change) {
        let key = change.object().key.clone();
        let mut selectors = self.selectors.write().unwrap_or_else(PoisonError::into_inner);
        let of_namespace = selectors.entry(key.namespace.clone()).or_default();
        let selector = match change {
            Change::Put { new, .. } => {
                parse_or_warn::<Service>(new).and_then(|service| service.spec?.selector)
            }
            Change::Delete(_) => None,
        };
        match selector.filter(|selector| !selector.is_empty()) {
            Some(selector) => drop(of_namespace.insert(key.name.clone(), selector)),
            None => drop(of_namespace.remove(&key.name)),
        }
        drop(selectors);
        self.queue.add(key);
    }

    fn pod_changed(&self, change: &Change) {
        let selectors = self.selectors.read().unwrap_or_else(PoisonError::into_inner);
        let pod = change.object();
        let Some(services) = selectors.get(&pod.key.namespace) else { return };
        let before = change.previous().filter(|previous| previous.labels != pod.labels);
        for (service, selector) in services {
            if selects(selector, pod) || before.is_some_and(|before| selects(selector, before)) {
                self.queue.add(Key::new(pod.key.namespace.clone(), service.clone()));
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let existing: Vec<EndpointSlice> = self
            .slices
            .indexed(BY_SERVICE, &key.to_string())
            .iter()
            .filter(|slice| !slice.deleting)
            .filter_map(|slice| parse_or_warn(slice))
            .collect();
        let service: Option<Service> = self.services.get_as(&key.namespace, &key.name);
        let Some((service, selector)) = service.and_then(|service| {
            let selector = service.spec.as_ref()?.selector.clone().filter(|s| !s.is_empty())?;
            (service.spec.as_ref()?.type_.as_deref() != Some("ExternalName"))
                .then_some((service, selector))
        }) else {
            // Without a selector the slices, if any, are somebody else's; ours go with the service.
            for slice in &existing {
                self.delete(&key.namespace, slice).await?;
            }
            return Ok(Action::Done);
        };
        let mut wanted: BTreeMap<Ports, Vec<Backend>> = BTreeMap::new();
        for object in self.pods.in_namespace(&key.namespace) {
            if !selects(&selector, &object) {
                continue;
            }
            let Some(pod) = parse_or_warn::<Pod>(&object) else { continue };
            let zone = |node: &str| self.zone(node);
            if let Some((ports, backend)) = endpoints::of_pod(&service, &pod, zone) {
                wanted.entry(ports).or_default().push(backend);
            }
        }
        let labels = endpoints::labels(&service);
        let plan = reconcile::plan(existing, wanted, &labels);
        for mut slice in plan.create {
            slice.metadata.generate_name = Some(endpoints::name_prefix(&key.name));
            slice.metadata.namespace = Some(key.namespace.to_string());
            slice.metadata.owner_references = Some(vec![controller_reference(&service)]);
            let api = self.context.client.namespaced::<EndpointSlice>(&key.namespace);
            match api.create(&PostParams::default(), &slice).await {
                Ok(_) => {}
                Err(error) if is_terminating(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for slice in plan.update {
            let api = self.context.client.namespaced::<EndpointSlice>(&key.namespace);
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            api.replace(name, &PostParams::default(), &slice).await?;
        }
        for slice in plan.delete {
            self.delete(&key.namespace, &slice).await?;
        }
        Ok(Action::Done)
    }

    fn zone(&self, node: &str) -> Option<String> {
        let node = self.nodes.get(&Key::new("", node))?;
        node.label("topology.kubernetes.io/zone").map(ToOwned::to_owned)
    }

    async fn delete(&self, namespace: &str, slice: &EndpointSlice) -> Result<(), Error> {
        let api = self.context.client.namespaced::<EndpointSlice>(namespace);
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        match api.delete(name, &client::DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn selects(selector: &BTreeMap<String, String>, pod: &Object) -> bool {
    selector.iter().all(|(key, value)| pod.label(key) == Some(value))
}
