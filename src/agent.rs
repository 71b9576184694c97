//! What a node is made of: runtime, pod network, service proxy, kubelet and edge.

pub(crate) mod control;
mod edge;
mod images;
mod network;
mod pod_network;
mod registries;

use std::sync::Arc;

use apiserver::request::UserInfo;
use client::{Client, Informers};
use kubelet::{Dependencies, Kubelet, KubeletConfig, ServingIdentity};
use pki::{certificate::AltNames, cluster::ClusterPki};
use runtime::{Runtime, RuntimeConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{images::Archives, network::Network, pod_network::NodeNetwork};
use crate::{
    check::{self, Finding},
    config::{NodeDirectories, Part, ServerOptions},
    node,
};

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
        client: impl Fn(&UserInfo, &'static str) -> Client,
    ) -> Result<Self, AgentError> {
        let stop = CancellationToken::new();
        let of = |user: &UserInfo, agent| Informers::new(client(user, agent), stop.clone());
        let node = format!("system:node:{}", node::name(options));
        let informers = of(&UserInfo::component(&node, &["system:nodes"]), "kubelet");
        let mut config = runtime_config(&options.directories);
        config.registries = registries::read(&options.private_registry)?;
        let (runtime, events) = Runtime::open(config).await?;
        let archives = options.directories.data_dir.join("agent/images");
        let archives = Archives::import(runtime.images().clone(), archives).await;
        let images = runtime.images().clone();
        let pods = Arc::new(NodeNetwork::default());
        let network = Network {
            options: options.clone(),
            own: informers.clone(),
            services: of(&UserInfo::component("system:kube-proxy", &[]), "kube-proxy"),
            pods: pods.clone(),
        };
        let adopted = network.adopt().await;
        let dependencies = Dependencies { informers, runtime, events, network: pods };
        let kubelet = Kubelet::start(kubelet_config(options, pki)?, dependencies).await?;
        let kubelet = Arc::new(kubelet);
        edge::hold_dns_address(options).await;
        warn_of_firewalls(options.clone());
        let for_edge = of(&UserInfo::component("system:knarr:edge", &[]), "knarr-edge");
        let run_dir = options.directories.run_dir.clone();
        let parts = vec![
            tokio::spawn(network.run(adopted, kubelet.clone(), stop.clone())),
            tokio::spawn(edge::run(options.clone(), for_edge, stop.clone())),
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
    let (name, ip) = (node::name(options), node::address(options));
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
        log_dir: options.directories.pod_logs_dir.clone(),
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
        version: format!("{}+knarr", crate::version::KUBERNETES),
        ..KubeletConfig::default()
    })
}

/// Logs which firewalls of others drop packets of pods. Nobody waits for it.
fn warn_of_firewalls(options: ServerOptions) {
    tokio::task::spawn_blocking(move || {
        for Finding { found, advice, .. } in check::obstacles(&options) {
            warn!("{found}; {advice}");
        }
    });
}
