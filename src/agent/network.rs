//! The node's network: made as soon as the node has its part of the cluster's addresses, which a node
//! that was here before has at once; from then on services are kept in the kernel.

use std::sync::Arc;

use client::{Client, Informers, Scope};
use k8s_openapi::api::core::v1::Node;
use kubelet::Kubelet;
use network::Cidr;
use proxy::ServiceProxy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pod_network::NodeNetwork;
use crate::{
    config::{Part, ServerOptions},
    node,
};

/// Largest packet on a pod's interface: that of an Ethernet, which nodes on one link need not
/// shrink.
const MTU: u32 = 1500;

/// What makes the node's network.
pub(super) struct Network {
    pub(super) options: ServerOptions,
    /// With the node's own rights: its addresses are on its Node.
    pub(super) own: Informers,
    /// With kube-proxy's rights.
    pub(super) services: Informers,
    pub(super) pods: Arc<NodeNetwork>,
}

impl Network {
    /// Connects a node that was here before, with the pods that run: they are known to the network
    /// before anybody asks for them.
    pub(super) async fn adopt(&self) -> Option<ServiceProxy> {
        let part = known_cidr(self.own.client(), &self.options).await?;
        self.connect(part).await
    }

    /// Makes the node's network, unless it was adopted, and keeps the services in the kernel.
    pub(super) async fn run(
        self,
        adopted: Option<ServiceProxy>,
        kubelet: Arc<Kubelet>,
        stop: CancellationToken,
    ) {
        let proxy = match adopted {
            Some(proxy) => Some(proxy),
            None => {
                let made = async {
                    let part = pod_cidr(&self.own, &node::name(&self.options)).await;
                    self.connect(part).await
                };
                let made = tokio::select! {
                    made = made => made,
                    () = stop.cancelled() => return,
                };
                kubelet.node_changed();
                made
            }
        };
        // Whoever stops the node stops the kubelet, which must not be shared then.
        drop(kubelet);
        if let Some(proxy) = proxy {
            proxy.run(stop).await;
        }
    }

    /// Connects the node with its part of the cluster's addresses, and the pods that run with it.
    async fn connect(&self, part: Cidr) -> Option<ServiceProxy> {
        let made = async {
            let proxy = connect_node(&self.options, &self.services, part).await?;
            let pods = network::PodNetwork::adopt(part, MTU, proxy.handle())?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((proxy, pods))
        };
        match made.await {
            Ok((proxy, pods)) => {
                info!(cidr = %part, "pod network ready");
                self.pods.connect(pods);
                Some(proxy)
            }
            Err(error) => {
                warn!(%error, "pod network failed");
                self.pods.fail(error.to_string());
                None
            }
        }
    }
}

/// The part of the cluster's addresses that the node was given before, if it was.
async fn known_cidr(client: &Client, options: &ServerOptions) -> Option<Cidr> {
    let node = client.cluster::<Node>().get(&node::name(options)).await.ok()?;
    node.spec?.pod_cidr?.parse().ok()
}

async fn connect_node(
    options: &ServerOptions,
    informers: &Informers,
    part: Cidr,
) -> Result<ServiceProxy, Box<dyn std::error::Error + Send + Sync>> {
    let cidr = |cidr: crate::config::Cidr| Cidr::new(cidr.address, cidr.prefix);
    let services = cidr(options.service_cidr);
    tokio::task::spawn_blocking(move || network::host::prepare(part, &[services])).await??;
    let held = if options.disabled(Part::Dns) { Vec::new() } else { vec![options.dns_address()] };
    let config = network::proxy::Config {
        cluster: cidr(options.cluster_cidr),
        node: part,
        service_networks: vec![services],
        held,
        sections: Vec::new(),
    };
    Ok(ServiceProxy::start(informers, &node::name(options), config).await?)
}

/// Waits until the node has been given its part of the cluster's pod addresses.
async fn pod_cidr(informers: &Informers, name: &str) -> Cidr {
    let own = informers.scoped::<Node>(Scope::fields(format!("metadata.name={name}")));
    let (sender, mut found) = watch::channel(None);
    own.on_change(move |change| {
        let cidr = client::informer::parse_or_warn::<Node>(change.object())
            .and_then(|node| node.spec?.pod_cidr?.parse::<Cidr>().ok());
        if cidr.is_some() {
            sender.send_replace(cidr);
        }
    });
    loop {
        if let Some(cidr) = *found.borrow_and_update() {
            return cidr;
        }
        if found.changed().await.is_err() {
            // The informer is gone, and with it the process: there is nothing left to wait for.
            std::future::pending::<()>().await;
        }
    }
}
