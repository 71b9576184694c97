//! ServiceLB: a Service of type LoadBalancer gets the addresses of the ready nodes.

use std::{collections::BTreeSet, sync::Arc};

use apimachinery::Key;
use client::{
    Informer, Informers, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    informer::parse_or_warn,
    is_not_found,
};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use serde_json::json;

use crate::Context;

/// Nodes with this label stay out (a label of upstream's).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Runs the controller, unless it is configured away.
pub(crate) async fn run(context: Context) {
    if !context.config.service_lb {
        return;
    }
    let services = context.informers.of::<Service>();
    let nodes = context.informers.of::<Node>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    services.on_change(move |change| adding.add(change.object().key.clone()));
    let (adding, all) = (queue.clone(), services.clone());
    nodes.on_change(move |_| all.list().into_iter().for_each(|s| adding.add(s.key.clone())));
    Informers::synced(&[&services, &nodes]).await;
    let client = context.client.clone();
    let work = move |key: Key| {
        let (client, services, nodes) = (client.clone(), services.clone(), nodes.clone());
        async move {
            let Some(service) = services.get_as::<Service>(&key.namespace, &key.name) else {
                return Ok(Action::Done);
            };
            let wanted = match is_ours(&service) {
                true => addresses(&nodes),
                false if is_balanced(&service) => return Ok(Action::Done),
                false => Vec::new(),
            };
            let known = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let known = known.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
            if known == wanted {
                return Ok(Action::Done);
            }
            let patch = json!({"metadata": {"uid": service.metadata.uid},
                "status": {"loadBalancer": {"ingress": wanted}}});
            let api = client.namespaced::<Service>(&key.namespace);
            let patch = Patch::Merge(&patch);
            match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
                Err(error) if !is_not_found(&error) => Err(ReconcileError::from(error)),
                _ => Ok(Action::Done),
            }
        }
    };
    context.work(queue, 1, work).await;
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

/// Whether the service wants a load balancer and names no other maker of them.
fn is_ours(service: &Service) -> bool {
    is_balanced(service)
        && service.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.is_none())
}

fn addresses(nodes: &Informer) -> Vec<LoadBalancerIngress> {
    let mut found = BTreeSet::new();
    for object in nodes.list().iter().filter(|node| node.label(EXCLUDED).is_none()) {
        let Some(status) = parse_or_warn::<Node>(object).and_then(|node| node.status) else {
            continue;
        };
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if !ready {
            continue;
        }
        let of_kind = |kind: &str| {
            let all = status.addresses.iter().flatten();
            all.filter(|address| address.type_ == kind)
                .map(|a| a.address.clone())
                .collect::<Vec<_>>()
        };
        let external = of_kind("ExternalIP");
        found.extend(if external.is_empty() { of_kind("InternalIP") } else { external });
    }
    found
        .into_iter()
        .map(|ip| LoadBalancerIngress {
            ip: Some(ip),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        })
        .collect()
}
