//! EndpointSlice: keeps the addresses of the pods behind each Service that has a selector.

mod endpoints;
mod reconcile;
mod write;

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::{Key, Object};
use client::{
    Informer, Informers, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
};
use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

pub(crate) use self::{
    endpoints::{Backend, Ports, name_prefix, of_pod},
    reconcile::{Plan, Shape, plan},
    write::{delete_all, write},
};
use crate::{
    Context,
    ownership::controller_reference,
    service_pods::{queue_services, selector_of, selects},
};

/// Label of slices: which controller looks after them.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Label of slices: the service that they belong to.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of what belongs to a service without an address of its own.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
const OURSELVES: &str = "endpointslice-controller.k8s.io";
/// Index of our slices by `namespace/service`.
const BY_SERVICE: &str = "service";
/// Endpoints in one slice at the most (upstream's default).
const LARGEST: usize = 100;

struct Controller {
    context: Context,
    services: Informer,
    pods: Informer,
    nodes: Informer,
    slices: Informer,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        services: context.informers.of::<Service>(),
        pods: context.informers.of::<Pod>(),
        nodes: context.informers.of::<Node>(),
        slices: context.informers.of::<EndpointSlice>(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    queue_services(&controller.services, &controller.pods, &controller.queue);
    controller.slices.add_index(BY_SERVICE, |slice| {
        service_of(slice, OURSELVES).map(|key| key.to_string().into()).into_iter().collect()
    });
    let queue = controller.queue.clone();
    controller.slices.on_change(move |change| {
        // What others did to a slice of ours is put right; our own writes settle in one more look.
        if let Some(service) = service_of(change.object(), OURSELVES) {
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

/// The service whose slice this is, if `manager` looks after it.
pub(crate) fn service_of(slice: &Object, manager: &str) -> Option<Key> {
    let service = slice.label(SERVICE_NAME)?;
    (slice.label(MANAGED_BY) == Some(manager))
        .then(|| Key::new(slice.key.namespace.clone(), service))
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let existing: Vec<EndpointSlice> = self
            .slices
            .indexed(BY_SERVICE, &key.to_string())
            .iter()
            .filter(|slice| !slice.deleting)
            .filter_map(|slice| parse_or_warn(slice))
            .collect();
        let client = &self.context.client;
        let service: Option<Service> = self.services.get_as(&key.namespace, &key.name);
        let Some((service, selector)) = service.and_then(|service| {
            let selector = selector_of(&service)?;
            Some((service, selector))
        }) else {
            // Without a selector the slices, if any, are somebody else's; ours go with the service.
            delete_all(client, &key.namespace, &existing).await?;
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
        let shape = Shape {
            address_type: "IPv4",
            largest: LARGEST,
            keeps_empty: true,
            meta: ObjectMeta {
                labels: Some(endpoints::labels(&service)),
                generate_name: Some(name_prefix(&key.name)),
                namespace: Some(key.namespace.to_string()),
                owner_references: Some(vec![controller_reference(&service)]),
                ..ObjectMeta::default()
            },
        };
        write(client, &key.namespace, plan(existing, wanted, &shape)).await?;
        Ok(Action::Done)
    }

    fn zone(&self, node: &str) -> Option<String> {
        let node = self.nodes.get(&Key::new("", node))?;
        node.label("topology.kubernetes.io/zone").map(ToOwned::to_owned)
    }
}
