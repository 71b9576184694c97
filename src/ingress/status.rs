//! Writes the nodes' addresses into the status of our Ingresses: every node serves all of them.
//!
//! One process of a cluster runs this, beside the controllers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::Key;
use client::controller::{Action, ReconcileError};
use client::informer::parse_or_warn;
use client::{Client, Informer, Informers, Patch, PatchParams, WorkQueue};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::feed::Classes;

/// Keeps the status of our Ingresses current until `stop`.
pub async fn run(informers: Informers, stop: CancellationToken) {
    let queue = Arc::new(WorkQueue::new());
    let writer = Arc::new(Writer {
        client: informers.client().clone(),
        ingresses: informers.of::<Ingress>(),
        classes: informers.of::<IngressClass>(),
        nodes: informers.of::<Node>(),
        addresses: Mutex::default(),
    });
    let adding = queue.clone();
    writer.ingresses.on_change(move |change| adding.add(change.object().key.clone()));
    let (adding, ingresses) = (queue.clone(), writer.ingresses.clone());
    let add_all = move || ingresses.list().iter().for_each(|object| adding.add(object.key.clone()));
    let every = add_all.clone();
    writer.classes.on_change(move |_| every());
    // A node says often that it is well, and its addresses hardly ever change.
    let following = Arc::downgrade(&writer);
    writer.nodes.on_change(move |_| {
        if following.upgrade().is_some_and(|writer| writer.addresses_changed()) {
            add_all();
        }
    });
    Informers::synced(&[&writer.ingresses, &writer.classes, &writer.nodes]).await;
    writer.addresses_changed();
    client::controller::run("ingress-status", queue, 1, stop, move |key| {
        let writer = writer.clone();
        async move { writer.write(key).await }
    })
    .await;
}

struct Writer {
    client: Client,
    ingresses: Informer,
    classes: Informer,
    nodes: Informer,
    addresses: Mutex<Vec<String>>,
}

impl Writer {
    /// Looks at the nodes again. Answers whether their addresses are others than before.
    fn addresses_changed(&self) -> bool {
        let nodes: Vec<Node> =
            self.nodes.list().iter().filter_map(|node| parse_or_warn(node)).collect();
        let now = addresses(&nodes);
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != now;
        *known = now;
        changed
    }

    async fn write(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.ingresses.get(&key) else { return Ok(Action::Done) };
        let ingress: Ingress = object.parse()?;
        let classes: Vec<IngressClass> =
            self.classes.list().iter().filter_map(|class| parse_or_warn(class)).collect();
        if !Classes::of(&classes).contain(&ingress) {
            return Ok(Action::Done);
        }
        let wanted = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if published(&ingress) == wanted {
            return Ok(Action::Done);
        }
        let entries: Vec<_> = wanted.iter().map(|ip| json!({"ip": ip})).collect();
        let patch = json!({"status": {"loadBalancer": {"ingress": entries}}});
        let api = self.client.namespaced::<Ingress>(&key.namespace);
        let written =
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match written {
            Err(error) if client::is_not_found(&error) => Ok(Action::Done),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Action::Done),
        }
    }
}

/// Where clients reach the nodes that are ready: their external addresses where there are any,
/// else the internal ones.
fn addresses(nodes: &[Node]) -> Vec<String> {
    let of_kind = |kind: &str| {
        let ready = nodes.iter().filter(|node| is_ready(node));
        let statuses = ready.filter_map(|node| node.status.as_ref());
        let addresses = statuses.flat_map(|status| status.addresses.iter().flatten());
        let of_kind = addresses.filter(|address| address.type_ == kind);
        of_kind.filter_map(|address| address.address.parse().ok()).collect::<BTreeSet<IpAddr>>()
    };
    let external = of_kind("ExternalIP");
    let chosen = if external.is_empty() { of_kind("InternalIP") } else { external };
    chosen.iter().map(IpAddr::to_string).collect()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn published(ingress: &Ingress) -> Vec<String> {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    entries.filter_map(|entry| entry.ip.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, addresses: &[(&str, &str)]) -> Node {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|(kind, address)| json!({"type": kind, "address": address}))
            .collect();
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let status = json!({"addresses": addresses, "conditions": conditions});
        serde_json::from_value(json!({"metadata": {"name": "n"}, "status": status})).unwrap()
    }

    #[test]
    fn addresses_of_nodes_that_are_ready() {
        let internal = |ready, ip| node(ready, &[("Hostname", "n"), ("InternalIP", ip)]);
        let nodes = [internal("True", "10.0.0.2"), internal("True", "10.0.0.1")];
        assert_eq!(addresses(&nodes), ["10.0.0.1", "10.0.0.2"]);
        let nodes = [internal("True", "10.0.0.2"), internal("False", "10.0.0.1")];
        assert_eq!(addresses(&nodes), ["10.0.0.2"]);
        let both = node("True", &[("InternalIP", "10.0.0.3"), ("ExternalIP", "192.0.2.3")]);
        assert_eq!(addresses(&[internal("True", "10.0.0.2"), both]), ["192.0.2.3"]);
        assert!(addresses(&[]).is_empty());
    }

    #[test]
    fn what_is_published_already() {
        let status = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "x"}]}});
        let ingress = json!({"metadata": {"name": "i"}, "status": status});
        let ingress: Ingress = serde_json::from_value(ingress).unwrap();
        assert_eq!(published(&ingress), ["10.0.0.1"]);
    }
}
