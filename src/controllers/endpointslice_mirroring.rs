//! EndpointSliceMirroring: Endpoints that somebody wrote for a Service without a selector, as
//! EndpointSlices too, which is what proxies and DNS read.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use apimachinery::Key;
use client::{
    Informer, Informers, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
    informer::parse_or_warn,
};
use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
        discovery::v1::{EndpointConditions, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    Context,
    endpoints::LEADER,
    endpointslice::{
        Backend, MANAGED_BY, Ports, SERVICE_NAME, Shape, delete_all, name_prefix, plan, service_of,
        write,
    },
    ownership::controller_reference,
};

const OURSELVES: &str = "endpointslicemirroring-controller.k8s.io";
/// Index of our slices by `namespace/service`.
const BY_SERVICE: &str = "mirrored-service";
/// Addresses mirrored of one subset at the most (upstream's default).
const LARGEST: usize = 1000;
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotations that say something of the Endpoints alone.
const NOT_MIRRORED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];

struct Controller {
    context: Context,
    services: Informer,
    endpoints: Informer,
    slices: Informer,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        services: context.informers.of::<Service>(),
        endpoints: context.informers.of::<Endpoints>(),
        slices: context.informers.of::<EndpointSlice>(),
        context,
    });
    controller.slices.add_index(BY_SERVICE, |slice| {
        service_of(slice, OURSELVES).map(|key| key.to_string().into()).into_iter().collect()
    });
    let queue = Arc::new(WorkQueue::new());
    for informer in [&controller.services, &controller.endpoints] {
        let adding = queue.clone();
        informer.on_change(move |change| adding.add(change.object().key.clone()));
    }
    let adding = queue.clone();
    controller.slices.on_change(move |change| {
        if let Some(service) = service_of(change.object(), OURSELVES) {
            adding.add(service);
        }
    });
    let (services, endpoints) = (&controller.services, &controller.endpoints);
    Informers::synced(&[services, endpoints, &controller.slices]).await;
    let this = controller.clone();
    let work = move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    };
    controller.context.work(queue, 5, work).await;
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
        let Some(endpoints) = self.mirrored(&key) else {
            delete_all(client, &key.namespace, &existing).await?;
            return Ok(Action::Done);
        };
        let wanted = wanted(&endpoints);
        let about = reference(&endpoints);
        if wanted.invalid > 0 {
            let text = format!(
                "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                wanted.invalid
            );
            self.context.recorder.warning(&about, "InvalidIPAddress", text);
        }
        if wanted.too_many > 0 {
            let text = format!(
                "A max of {LARGEST} addresses can be mirrored to EndpointSlices per Endpoints \
                 subset. {} addresses were skipped",
                wanted.too_many + wanted.invalid
            );
            self.context.recorder.warning(&about, "TooManyAddressesToMirror", text);
        }
        let deleting = endpoints.metadata.deletion_timestamp.is_some();
        for (address_type, wanted) in [("IPv4", wanted.v4), ("IPv6", wanted.v6)] {
            let shape = shape(&endpoints, address_type);
            let mut plan = plan(existing.clone(), wanted, &shape);
            if deleting {
                plan.create.clear();
            }
            write(client, &key.namespace, plan).await?;
        }
        Ok(Action::Done)
    }

    /// The Endpoints at `key`, if they are to be mirrored.
    fn mirrored(&self, key: &Key) -> Option<Endpoints> {
        let endpoints: Endpoints = self.endpoints.get_as(&key.namespace, &key.name)?;
        let meta = &endpoints.metadata;
        let skip = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).map(String::as_str);
        let elects = meta.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
        let service: Service = self.services.get_as(&key.namespace, &key.name)?;
        let selects = service.spec.is_some_and(|spec| spec.selector.is_some());
        (skip != Some("true") && !elects && !selects).then_some(endpoints)
    }
}

fn shape(endpoints: &Endpoints, address_type: &'static str) -> Shape {
    let meta = &endpoints.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), OURSELVES.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_MIRRORED.contains(&name.as_str()));
    Shape {
        address_type,
        largest: LARGEST,
        keeps_empty: false,
        meta: ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            generate_name: Some(name_prefix(name)),
            namespace: meta.namespace.clone(),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
    }
}

/// The endpoints of each family, and what was left out.
#[derive(Debug, Default)]
struct Wanted {
    v4: BTreeMap<Ports, Vec<Backend>>,
    v6: BTreeMap<Ports, Vec<Backend>>,
    invalid: usize,
    too_many: usize,
}

fn wanted(endpoints: &Endpoints) -> Wanted {
    let mut wanted = Wanted::default();
    for (ports, addresses) in repacked(endpoints.subsets.as_deref().unwrap_or_default()) {
        let mut added = 0;
        for (ready, address) in addresses {
            let Some(backend) = backend(&address, ready) else {
                wanted.invalid += 1;
                continue;
            };
            if added == LARGEST {
                wanted.too_many += 1;
                continue;
            }
            added += 1;
            let family = match backend.addresses[0].contains(':') {
                true => &mut wanted.v6,
                false => &mut wanted.v4,
            };
            family.entry(ports.clone()).or_default().push(backend);
        }
    }
    wanted
}

/// Subsets in their plain form: every address once for all the ports that it has in any subset,
/// and addresses with the same ports together, each with whether it is ready, those first.
fn repacked(subsets: &[EndpointSubset]) -> BTreeMap<Ports, Vec<(bool, EndpointAddress)>> {
    let mut addresses: BTreeMap<(bool, (String, String)), (EndpointAddress, Ports)> =
        BTreeMap::new();
    for subset in subsets {
        let ports = subset.ports.iter().flatten().map(|port| {
            (
                port.name.clone().unwrap_or_default(),
                port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port.port,
                port.app_protocol.clone(),
            )
        });
        let ports: Ports = ports.collect();
        let of = |list: &Option<Vec<EndpointAddress>>, unready: bool| {
            let list = list.clone().unwrap_or_default();
            list.into_iter().map(move |address| (unready, address))
        };
        let all = of(&subset.addresses, false).chain(of(&subset.not_ready_addresses, true));
        for (unready, address) in all {
            let pod = address.target_ref.as_ref().and_then(|target| target.uid.clone());
            let identity = (unready, (address.ip.clone(), pod.unwrap_or_default()));
            let (_, known) = addresses.entry(identity).or_insert((address, Ports::new()));
            known.extend(ports.iter().cloned());
        }
    }
    let mut packed: BTreeMap<Ports, Vec<_>> = BTreeMap::new();
    for ((unready, _), (address, mut ports)) in addresses {
        ports.sort();
        ports.dedup();
        packed.entry(ports).or_default().push((!unready, address));
    }
    packed
}

fn backend(address: &EndpointAddress, ready: bool) -> Option<Backend> {
    let ip: IpAddr = address.ip.parse().ok()?;
    Some(Backend {
        addresses: vec![ip.to_canonical().to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        ..Backend::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn summary(subsets: &Value) -> (Vec<String>, usize) {
        let endpoints: Endpoints = serde_json::from_value(json!({"subsets": subsets})).unwrap();
        let wanted = wanted(&endpoints);
        let lines = wanted.v4.iter().chain(&wanted.v6).map(|(ports, backends)| {
            let ports: Vec<String> = ports.iter().map(|port| port.2.to_string()).collect();
            let backends: Vec<String> = backends
                .iter()
                .map(|backend| {
                    let ready = backend.conditions.as_ref().unwrap().ready.unwrap();
                    format!("{}{}", backend.addresses[0], if ready { "" } else { "!" })
                })
                .collect();
            format!("{} @ {}", backends.join(" "), ports.join(" "))
        });
        (lines.collect(), wanted.invalid)
    }

    #[test]
    fn subsets_are_repacked_by_ports_and_family() {
        let subsets = json!([
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]},
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 90}]},
            {"addresses": [{"ip": "x"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"port": 80}, {"port": 90}]},
        ]);
        let wanted = ["10.0.0.1 10.0.0.2! @ 80 90".to_owned(), "fd00::1 @ 90".to_owned()];
        assert_eq!(summary(&subsets), (wanted.to_vec(), 1));
    }
}
