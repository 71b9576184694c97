//! What a node is made of: runtime, pod network, service proxy, kubelet and edge.

pub(crate) mod control;
mod images;
mod pod_network;
mod registries;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use apiserver::request::UserInfo;
use client::{Client, Informers, Scope};
use k8s_openapi::api::core::v1::Node;
use kubelet::{Dependencies, Kubelet, KubeletConfig, ServingIdentity};
use netlink::rtnl::Rtnl;
use network::Cidr;
use pki::{certificate::AltNames, cluster::ClusterPki};
use proxy::ServiceProxy;
use runtime::{Runtime, RuntimeConfig};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{images::Archives, pod_network::NodeNetwork};
use crate::{
    check::{self, Finding},
    config::{NodeDirectories, Part, ServerOptions},
    edge::{
        protocol::Listener,
        supervisor::{Feeds, Options, Supervisor},
    },
};

/// Largest packet on a pod's interface: that of an Ethernet, which nodes on one link need not
/// shrink.
const MTU: u32 = 1500;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The runtime did not open.
    #[error("container runtime: {0}")]
    Runtime(#[from] runtime::Error),
    /// The kubelet did not start.
    #[error("kubelet: {0}")]
    Kubelet(#[from] kubelet::StartError),
    /// The node's certificate could not be made.
    #[error("certificate of the node: {0}")]
    Pki(#[from] pki::Error),
    /// The file of registries is wrong.
    #[error(transparent)]
    Registries(#[from] registries::RegistriesError),
}

/// A running node.
pub(crate) struct Agent {
    kubelet: Arc<Kubelet>,
    stop: CancellationToken,
    parts: Vec<JoinHandle<()>>,
}

impl Agent {
    /// Starts all parts of the node. Its network follows as soon as the node has its addresses.
    /// `client` makes a client for a user: each part has the rights that upstream gives it.
    pub(crate) async fn start(
        options: &ServerOptions,
        pki: &ClusterPki,
        client: impl Fn(&UserInfo) -> Client,
    ) -> Result<Self, AgentError> {
        let stop = CancellationToken::new();
        let of = |user: &UserInfo| Informers::new(client(user), stop.clone());
        let node = format!("system:node:{}", node_name(options));
        let informers = of(&UserInfo::component(&node, &["system:nodes"]));
        let for_proxy = of(&UserInfo::component("system:kube-proxy", &[]));
        let for_edge = of(&UserInfo::component("system:knarr:edge", &[]));
        let mut config = runtime_config(&options.directories);
        config.registries = registries::read(&options.private_registry)?;
        let (runtime, events) = Runtime::open(config).await?;
        let archives = options.directories.data_dir.join("agent/images");
        let archives = Archives::import(runtime.images().clone(), archives).await;
        let images = runtime.images().clone();
        let network = Arc::new(NodeNetwork::default());
        // A node that was here before has its addresses: its pods are known to the network before
        // anybody asks for them.
        let proxy = match known_cidr(
            &client(&UserInfo::component(&node, &["system:nodes"])),
            options,
        )
        .await
        {
            Some(part) => connect(options, &for_proxy, &network, part).await,
            None => None,
        };
        let dependencies = Dependencies {
            informers: informers.clone(),
            runtime,
            events,
            network: network.clone(),
        };
        let kubelet = Kubelet::start(kubelet_config(options, pki)?, dependencies).await?;
        let kubelet = Arc::new(kubelet);
        hold_dns_address(options).await;
        warn_of_firewalls(options.clone());
        let follow = Follow {
            options: options.clone(),
            own: informers,
            services: for_proxy,
            network,
            kubelet: kubelet.clone(),
        };
        let edge = run_edge(options.clone(), for_edge, stop.clone());
        let run_dir = options.directories.run_dir.clone();
        let parts = vec![
            tokio::spawn(follow.run(proxy, stop.clone())),
            tokio::spawn(edge),
            tokio::spawn(archives.follow(stop.clone())),
            tokio::spawn(control::serve(images, run_dir, stop.clone())),
        ];
        Ok(Self { kubelet, stop, parts })
    }

    /// Stops the parts; pods and the edge go on running.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for part in self.parts {
            let _ = part.await;
        }
        // The network part, which shared it, has ended.
        if let Some(kubelet) = Arc::into_inner(self.kubelet) {
            kubelet.stop().await;
        }
    }
}

/// Where the runtime of a node keeps its things.
pub(crate) fn runtime_config(directories: &NodeDirectories) -> RuntimeConfig {
    RuntimeConfig {
        data_dir: directories.data_dir.join("agent/runtime"),
        run_dir: directories.run_dir.clone(),
        cgroup_root: directories.cgroup_root.clone(),
        ..RuntimeConfig::default()
    }
}

fn kubelet_config(options: &ServerOptions, pki: &ClusterPki) -> Result<KubeletConfig, AgentError> {
    let (name, ip) = (node_name(options), node_ip(options));
    let names = AltNames::new([name.clone(), ip.to_string()]);
    let serving = pki.node_serving(&name, names)?;
    let data = options.directories.data_dir.join("agent/kubelet");
    let labels = options.node_label.iter().filter_map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    });
    Ok(KubeletConfig {
        hostname: name.clone(),
        node_name: name,
        node_ips: vec![ip],
        labels: labels.collect(),
        seccomp_dir: data.join("seccomp"),
        log_dir: options.directories.data_dir.join("agent/logs"),
        data_dir: data,
        cluster_dns: match options.disabled(Part::Dns) {
            true => Vec::new(),
            false => vec![options.dns_address().into()],
        },
        cluster_domain: options.cluster_domain.clone(),
        resolv_conf: Some(options.resolv_conf.clone()),
        serving: Some(ServingIdentity {
            certificate: serving.certificate,
            key: serving.key,
            client_ca: pki.authority.pem(),
        }),
        port: options.kubelet_port,
        cgroup_root: options.directories.cgroup_root.clone(),
        version: format!("{}+knarr", crate::cli::KUBERNETES),
        ..KubeletConfig::default()
    })
}

/// The part of the node that has to do with its network, from when its addresses are known.
struct Follow {
    options: ServerOptions,
    own: Informers,
    services: Informers,
    network: Arc<NodeNetwork>,
    kubelet: Arc<Kubelet>,
}

impl Follow {
    /// Makes the node's network, unless that is done, and keeps the services in the kernel.
    async fn run(self, proxy: Option<ServiceProxy>, stop: CancellationToken) {
        let proxy = match proxy {
            Some(proxy) => Some(proxy),
            None => {
                let made = async {
                    let part = pod_cidr(&self.own, &node_name(&self.options)).await;
                    connect(&self.options, &self.services, &self.network, part).await
                };
                let made = tokio::select! {
                    made = made => made,
                    () = stop.cancelled() => return,
                };
                self.kubelet.node_changed();
                made
            }
        };
        // Whoever stops the node stops the kubelet, which must not be shared then.
        drop(self.kubelet);
        if let Some(proxy) = proxy {
            proxy.run(stop).await;
        }
    }
}

/// Connects the node with its part of the cluster's addresses, and the pods that run with it.
async fn connect(
    options: &ServerOptions,
    services: &Informers,
    network: &NodeNetwork,
    part: Cidr,
) -> Option<ServiceProxy> {
    let made = async {
        let proxy = connect_node(options, services, &node_name(options), part).await?;
        let pods = network::PodNetwork::adopt(part, MTU, proxy.handle())?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((proxy, pods))
    };
    match made.await {
        Ok((proxy, pods)) => {
            info!(cidr = %part, "pod network ready");
            network.connect(pods);
            Some(proxy)
        }
        Err(error) => {
            warn!(%error, "pod network failed");
            network.fail(error.to_string());
            None
        }
    }
}

/// The part of the cluster's addresses that the node was given before, if it was.
async fn known_cidr(client: &Client, options: &ServerOptions) -> Option<Cidr> {
    let node = client.cluster::<Node>().get(&node_name(options)).await.ok()?;
    node.spec?.pod_cidr?.parse().ok()
}

async fn connect_node(
    options: &ServerOptions,
    informers: &Informers,
    name: &str,
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
    Ok(ServiceProxy::start(informers, name, config).await?)
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

/// Puts the address of cluster DNS on loopback: the edge binds its sockets to that very address.
async fn hold_dns_address(options: &ServerOptions) {
    if options.disabled(Part::Dns) {
        return;
    }
    let address = options.dns_address();
    let held = tokio::task::spawn_blocking(move || network::loopback::hold(address)).await;
    if let Ok(Err(error)) = held {
        warn!(%error, %address, "address of cluster dns not held");
    }
}

/// Logs which firewalls of others drop packets of pods. Nobody waits for it.
fn warn_of_firewalls(options: ServerOptions) {
    tokio::task::spawn_blocking(move || {
        for Finding { found, advice, .. } in check::obstacles(&options) {
            warn!("{found}; {advice}");
        }
    });
}

async fn run_edge(options: ServerOptions, informers: Informers, stop: CancellationToken) {
    let (with_dns, with_ingress) = (!options.disabled(Part::Dns), !options.disabled(Part::Ingress));
    if !with_dns && !with_ingress {
        return;
    }
    let mut edge = Options::new(&options.directories.run_dir);
    let mut feeds = Feeds::default();
    if with_dns {
        let address = SocketAddr::from((options.dns_address(), 53));
        edge.listeners.extend([Listener::DnsUdp(address), Listener::DnsTcp(address)]);
        let net = |cidr: crate::config::Cidr| cidr.to_string().parse().ok();
        edge.dns = dns::Config {
            domain: options.cluster_domain.clone(),
            addresses: vec![options.dns_address().into()],
            ranges: [options.cluster_cidr, options.service_cidr]
                .into_iter()
                .filter_map(net)
                .collect(),
            resolv_conf: options.resolv_conf.clone(),
            ..dns::Config::default()
        };
        let feed = dns::feed::Feed::new(&informers);
        feeds.dns = Some(Box::new(move |sender| {
            let feed = feed.clone();
            Box::pin(async move { feed.run(sender).await })
        }));
    }
    if with_ingress {
        let any = Ipv4Addr::UNSPECIFIED;
        edge.listeners.extend([
            Listener::Http(SocketAddr::from((any, options.ingress_http_port))),
            Listener::Https(SocketAddr::from((any, options.ingress_https_port))),
        ]);
        let feed = ingress::feed::Feed::new(&informers, None);
        feeds.ingress = Some(Box::new(move |sender| {
            let feed = feed.clone();
            Box::pin(async move { feed.run(sender).await })
        }));
    }
    let (_keep, settings) = watch::channel(edge);
    Supervisor::new(settings, feeds).run(stop).await;
}

/// The name of this node: given, or the host name in lower case, as names of objects must be.
pub(crate) fn node_name(options: &ServerOptions) -> String {
    options.node_name.clone().unwrap_or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_lowercase()
    })
}

/// The address of this node: given, or the source address of the default route, or loopback on a
/// machine without a network.
pub(crate) fn node_ip(options: &ServerOptions) -> IpAddr {
    match options.node_ip {
        Some(given) => given.into(),
        None => default_address().unwrap_or(IpAddr::from([127, 0, 0, 1])),
    }
}

fn default_address() -> Option<IpAddr> {
    let mut rtnl = Rtnl::open().ok()?;
    let route = rtnl.default_route().ok()??;
    if let Some(source) = route.source {
        return Some(source);
    }
    let addresses = rtnl.addresses().ok()?;
    let own = addresses.iter().filter(|address| address.link == route.link);
    own.map(|address| address.address).find(IpAddr::is_ipv4)
}
