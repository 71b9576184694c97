//! Endpoints: the addresses behind each Service in the form from before EndpointSlices, for
//! clients that still read it.

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::Key;
use client::{
    DeleteParams, Error, Informer, Informers, PostParams, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
    informer::parse_or_warn,
    is_already_exists, is_conflict, is_not_found,
};
use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    Context,
    endpointslice::{Backend, HEADLESS, Ports, of_pod},
    pod_control::{is_terminating, text_of},
    service_pods::{queue_services, selector_of, selects},
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OURSELVES: &str = "endpoint-controller";
/// Addresses in one object at the most; beyond them it is cut off, and says so.
const LARGEST: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// What made the form before Leases hold elections; such objects have no service.
pub(crate) const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Controller {
    context: Context,
    services: Informer,
    pods: Informer,
    endpoints: Informer,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        services: context.informers.of::<Service>(),
        pods: context.informers.of::<Pod>(),
        endpoints: context.informers.of::<Endpoints>(),
        context,
    });
    let queue = Arc::new(WorkQueue::new());
    queue_services(&controller.services, &controller.pods, &queue);
    let adding = queue.clone();
    controller.endpoints.on_change(move |change| adding.add(change.object().key.clone()));
    let (services, pods) = (&controller.services, &controller.pods);
    Informers::synced(&[services, pods, &controller.endpoints]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(queue, 5, work).await;
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let there: Option<Endpoints> = self.endpoints.get_as(&key.namespace, &key.name);
        let Some(service) = self.services.get_as::<Service>(&key.namespace, &key.name) else {
            // Those that somebody else wrote may well come before their service.
            if let Some(there) = there.filter(|there| label(there, MANAGED_BY) == Some(OURSELVES)) {
                self.delete(&there).await?;
            }
            return Ok(Action::Done);
        };
        let Some(selector) = selector_of(&service) else { return Ok(Action::Done) };
        let publish = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses);
        let mut wanted: BTreeMap<Ports, Vec<Backend>> = BTreeMap::new();
        for object in self.pods.in_namespace(&key.namespace) {
            if !selects(&selector, &object) || (object.deleting && publish != Some(true)) {
                continue;
            }
            let Some(pod) = parse_or_warn::<Pod>(&object) else { continue };
            if let Some((ports, backend)) = of_pod(&service, &pod, |_| None) {
                wanted.entry(ports).or_default().push(backend);
            }
        }
        let declares_ports =
            service.spec.as_ref().is_some_and(|s| s.ports.as_ref().is_some_and(|p| !p.is_empty()));
        if declares_ports || !is_headless(&service) {
            // Without any port that can be reached, there is nothing to reach.
            wanted.retain(|ports, _| !ports.is_empty());
        }
        let (subsets, truncated) = subsets(wanted);
        let meant = object(&service, there.as_ref(), subsets, truncated);
        if there.as_ref().is_some_and(|there| same(there, &meant)) {
            return Ok(Action::Done);
        }
        self.write(there.is_some(), &meant).await?;
        Ok(Action::Done)
    }

    async fn write(&self, exists: bool, endpoints: &Endpoints) -> Result<(), Error> {
        let (name, namespace) = names(endpoints);
        let api = self.context.client.namespaced::<Endpoints>(namespace);
        let written = match exists {
            true => api.replace(name, &PostParams::default(), endpoints).await,
            false => api.create(&PostParams::default(), endpoints).await,
        };
        match written {
            Ok(_) => Ok(()),
            // The cache lags behind; it will bring what is there.
            Err(error) if is_already_exists(&error) || is_conflict(&error) => Ok(()),
            Err(error) if is_terminating(&error) || is_not_found(&error) => Ok(()),
            Err(error) => {
                let (reason, what) = match exists {
                    true => ("FailedToUpdateEndpoint", "update endpoint"),
                    false => ("FailedToCreateEndpoint", "create endpoint for service"),
                };
                let text = format!("Failed to {what} {namespace}/{name}: {}", text_of(&error));
                self.context.recorder.warning(&reference(endpoints), reason, text);
                Err(error)
            }
        }
    }

    async fn delete(&self, endpoints: &Endpoints) -> Result<(), Error> {
        let (name, namespace) = names(endpoints);
        let api = self.context.client.namespaced::<Endpoints>(namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn names(endpoints: &Endpoints) -> (&str, &str) {
    let meta = &endpoints.metadata;
    (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default())
}

fn label<'a>(endpoints: &'a Endpoints, name: &str) -> Option<&'a str> {
    endpoints.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    matches!(address, None | Some("" | "None"))
}

/// The subsets, and whether addresses had to be left out: of those that are not ready first.
fn subsets(wanted: BTreeMap<Ports, Vec<Backend>>) -> (Vec<EndpointSubset>, bool) {
    let is_ready = |backend: &Backend| {
        backend.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
    };
    let total: usize = wanted.values().map(Vec::len).sum();
    let ready: usize = wanted.values().flatten().filter(|backend| is_ready(backend)).count();
    let (mut room_ready, mut room_other) = (LARGEST, LARGEST.saturating_sub(ready));
    let mut subsets = Vec::new();
    for (ports, mut backends) in wanted {
        backends.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        let (ready, other): (Vec<_>, Vec<_>) = backends.into_iter().partition(is_ready);
        let take = |backends: Vec<Backend>, room: &mut usize| {
            let taken: Vec<EndpointAddress> =
                backends.into_iter().take(*room).map(address).collect();
            *room -= taken.len();
            Some(taken).filter(|taken| !taken.is_empty())
        };
        let addresses = take(ready, &mut room_ready);
        let not_ready_addresses = take(other, &mut room_other);
        if addresses.is_some() || not_ready_addresses.is_some() {
            let ports = Some(ports.iter().map(port).collect()).filter(|p: &Vec<_>| !p.is_empty());
            subsets.push(EndpointSubset { addresses, not_ready_addresses, ports });
        }
    }
    (subsets, total > LARGEST)
}

fn address(backend: Backend) -> EndpointAddress {
    EndpointAddress {
        ip: backend.addresses.into_iter().next().unwrap_or_default(),
        hostname: backend.hostname,
        node_name: backend.node_name,
        target_ref: backend.target_ref,
    }
}

fn port(port: &(String, String, i32, Option<String>)) -> EndpointPort {
    let (name, protocol, port, app_protocol) = port;
    EndpointPort {
        name: Some(name.clone()).filter(|name| !name.is_empty()),
        protocol: Some(protocol.clone()),
        port: *port,
        app_protocol: app_protocol.clone(),
    }
}

/// The object that should be there: `there` with our contents and the labels of the service.
fn object(
    service: &Service,
    there: Option<&Endpoints>,
    subsets: Vec<EndpointSubset>,
    truncated: bool,
) -> Endpoints {
    let mut metadata = there.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |there| there.metadata.clone(),
    );
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    match is_headless(service) {
        true => labels.insert(HEADLESS.to_owned(), String::new()),
        false => labels.remove(HEADLESS),
    };
    labels.insert(MANAGED_BY.to_owned(), OURSELVES.to_owned());
    metadata.labels = Some(labels);
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    match truncated {
        true => annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned()),
        false => annotations.remove(OVER_CAPACITY),
    };
    metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    Endpoints { metadata, subsets: Some(subsets).filter(|subsets| !subsets.is_empty()) }
}

/// Whether nothing needs writing. The server orders subsets in its own way.
fn same(there: &Endpoints, meant: &Endpoints) -> bool {
    let sorted = |endpoints: &Endpoints| {
        let mut subsets = endpoints.subsets.clone().unwrap_or_default();
        subsets.sort_by_key(|subset| format!("{:?}", subset.ports));
        subsets
    };
    there.metadata.labels == meant.metadata.labels
        && there.metadata.annotations == meant.metadata.annotations
        && sorted(there) == sorted(meant)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    use super::*;

    fn backend(at: usize, ready: bool) -> Backend {
        Backend {
            addresses: vec![format!("10.0.{}.{}", at / 250, at % 250)],
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                ..EndpointConditions::default()
            }),
            ..Backend::default()
        }
    }

    #[test]
    fn ready_addresses_are_the_last_to_be_cut_off() {
        let ports: Ports = vec![("http".to_owned(), "TCP".to_owned(), 80, None)];
        let run = |ready: usize, other: usize| {
            let all = (0..ready + other).map(|at| backend(at, at < ready)).collect();
            let (subsets, truncated) = subsets(BTreeMap::from([(ports.clone(), all)]));
            let count = |list: Option<&Vec<_>>| list.map_or(0, Vec::len);
            let [subset] = subsets.as_slice() else { panic!("one subset") };
            let ready = count(subset.addresses.as_ref());
            (ready, count(subset.not_ready_addresses.as_ref()), truncated)
        };
        assert_eq!(run(2, 3), (2, 3, false));
        assert_eq!(run(600, 600), (600, 400, true));
        assert_eq!(run(1200, 5), (1000, 0, true));
    }
}
