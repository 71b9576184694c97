//! Node IPAM: gives each node its part of the cluster's pod addresses, a /24.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use apimachinery::Key;
use client::{
    Informer, Informers, Patch, PatchParams, WorkQueue,
    controller::{Action, ReconcileError},
    events::reference,
};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tracing::info;

use crate::Context;

/// Prefix of a node's part.
const NODE_PREFIX: u8 = 24;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let nodes = context.informers.of::<Node>();
    let queue = Arc::new(WorkQueue::new());
    let adding = queue.clone();
    nodes.on_change(move |change| adding.add(change.object().key.clone()));
    Informers::synced(&[&nodes]).await;
    let this = context.clone();
    // One worker: two at a time could give out one part twice.
    let work = move |key: Key| {
        let (context, nodes) = (this.clone(), nodes.clone());
        async move { assign(&context, &nodes, &key).await }
    };
    context.work(queue, 1, work).await;
}

async fn assign(context: &Context, nodes: &Informer, key: &Key) -> Result<Action, ReconcileError> {
    let Some(node) = nodes.get_as::<Node>("", &key.name) else { return Ok(Action::Done) };
    if part_of(&node).is_some() {
        return Ok(Action::Done);
    }
    // Asked of the API and not of the cache, which may lag behind the last assignment.
    let all = context.client.cluster::<Node>().list(&client::ListParams::default()).await?;
    let taken: BTreeSet<String> = all.items.iter().filter_map(part_of).collect();
    let Some(part) = parts(&context.config.cluster_cidr).find(|part| !taken.contains(part)) else {
        let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
        context.recorder.warning(&reference(&node), "CIDRNotAvailable", message);
        return Err(ReconcileError::Other("no pod addresses are left for the node".to_owned()));
    };
    info!(node = %key.name, cidr = part, "pod addresses assigned");
    let patch = json!({"metadata": {"uid": node.metadata.uid},
        "spec": {"podCIDR": part, "podCIDRs": [part]}});
    let api = context.client.cluster::<Node>();
    api.patch(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    Ok(Action::Done)
}

fn part_of(node: &Node) -> Option<String> {
    node.spec.as_ref()?.pod_cidr.clone().filter(|cidr| !cidr.is_empty())
}

/// All parts of a block. A block smaller than a part is one part.
fn parts(cluster_cidr: &str) -> impl Iterator<Item = String> + use<> {
    let (address, prefix) = cluster_cidr.split_once('/').unwrap_or((cluster_cidr, "24"));
    let first = u32::from(address.parse::<Ipv4Addr>().unwrap_or(Ipv4Addr::UNSPECIFIED));
    let prefix: u8 = prefix.parse().unwrap_or(NODE_PREFIX);
    let part = prefix.max(NODE_PREFIX);
    let count = 1_u32 << (part - prefix);
    let size = 1_u32 << (32 - part);
    (0..count).map(move |at| format!("{}/{part}", Ipv4Addr::from(first + at * size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_cut_into_parts_for_nodes() {
        let all: Vec<String> = parts("10.42.0.0/16").collect();
        assert_eq!(all.len(), 256);
        assert_eq!((all[0].as_str(), all[255].as_str()), ("10.42.0.0/24", "10.42.255.0/24"));
        assert_eq!(parts("10.0.0.0/26").collect::<Vec<_>>(), ["10.0.0.0/26"]);
    }
}
