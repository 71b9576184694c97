//! The sandbox of a pod: its namespaces and cgroup, its addresses, the files that tell its containers
//! who they are.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use runtime::{Sandbox, SandboxSpec};

use super::log_files;
use crate::{
    dns,
    hosts::Names,
    network::{HostPort, PodAttachment},
    podspec::{PodExt, pod_reference},
    resources::cgroups::{pod_path, pod_resources},
    security::sysctls,
    shared::Shared,
};

/// Makes the sandbox of a pod and connects it. Answers it with its addresses.
pub(super) async fn create(
    shared: &Shared,
    pod: &Pod,
    pod_dir: &Path,
) -> Result<(Sandbox, Vec<IpAddr>), String> {
    check_runtime_class(shared, pod)?;
    let names = Names::of(pod, &shared.config.cluster_domain)?;
    let formed = dns::form(pod, &shared.config)?;
    for (reason, message) in formed.warnings {
        shared.recorder.warning(&pod_reference(pod), reason, message);
    }
    let kernel_name = names.kernel(pod)?;
    let files = Files::of(pod_dir);
    files.write(&formed.conf.text(), &kernel_name).map_err(|error| error.to_string())?;
    let spec = spec(shared, pod, kernel_name);
    let sandbox = shared.runtime.create_sandbox(spec).await.map_err(|error| error.to_string())?;
    if pod.host_network() {
        return Ok((sandbox, shared.config.node_ips.clone()));
    }
    let netns = sandbox.netns_path().ok_or("sandbox has no network namespace")?;
    match shared.network.attach(&attachment(pod, netns)).await {
        Ok(ips) => Ok((sandbox, ips)),
        Err(error) => {
            // A half connected sandbox is of no use: the next attempt makes a new one.
            remove(shared, pod.uid(), &sandbox).await;
            Err(format!("failed to setup network for sandbox: {error}"))
        }
    }
}

/// Connects the sandbox of a pod that was adopted: its host ports are open again then.
pub(super) async fn reconnect(
    shared: &Shared,
    pod: &Pod,
    sandbox: &Sandbox,
) -> Result<Vec<IpAddr>, String> {
    let netns = sandbox.netns_path().ok_or("sandbox has no network namespace")?;
    let attached = shared.network.attach(&attachment(pod, netns)).await;
    attached.map_err(|error| error.to_string())
}

/// Disconnects and removes a sandbox with all that runs in it. What fails is logged and tried again
/// when the pod is removed.
pub(super) async fn remove(shared: &Shared, uid: &str, sandbox: &Sandbox) {
    if let Some(netns) = sandbox.netns_path()
        && let Err(error) = shared.network.detach(uid, &netns).await
    {
        tracing::warn!(uid, %error, "pod not disconnected");
    }
    if let Err(error) = sandbox.remove().await {
        tracing::warn!(uid, %error, "sandbox not removed");
    }
}

fn attachment(pod: &Pod, netns: PathBuf) -> PodAttachment {
    let host_ports = pod
        .containers()
        .iter()
        .chain(pod.init_containers())
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            Some(HostPort {
                host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
                container_port: u16::try_from(port.container_port).ok()?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
            })
        })
        .collect();
    PodAttachment {
        uid: pod.uid().to_owned(),
        namespace: pod.namespace().to_owned(),
        name: pod.name().to_owned(),
        netns,
        host_ports,
    }
}

/// The sysctls of a pod. In a network namespace of its own any user may listen at low ports and send
/// pings, as the container runtimes in use have it, unless the pod says otherwise.
fn sysctls_of(pod: &Pod) -> BTreeMap<String, String> {
    let usual = match pod.host_network() {
        true => &[][..],
        false => &[
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
        ],
    };
    let context = pod.spec_or_empty().security_context.as_ref();
    let own = context.into_iter().flat_map(|context| context.sysctls.iter().flatten());
    let usual = usual.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    usual.chain(own.map(|s| (sysctls::normalized(&s.name), s.value.clone()))).collect()
}

fn spec(shared: &Shared, pod: &Pod, hostname: String) -> SandboxSpec {
    let of_pod = pod.spec_or_empty();
    SandboxSpec {
        pod_uid: pod.uid().to_owned(),
        pod_name: pod.name().to_owned(),
        pod_namespace: pod.namespace().to_owned(),
        hostname,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        log_dir: log_files::pod_folder(&shared.config.log_dir, pod),
        cgroup_parent: pod_path(pod),
        resources: pod_resources(pod, shared.config.pod_pids_limit),
        host_network: pod.host_network(),
        host_pid: of_pod.host_pid == Some(true),
        host_ipc: of_pod.host_ipc == Some(true),
        share_process_namespace: of_pod.share_process_namespace == Some(true),
        sysctls: sysctls_of(pod),
    }
}

fn check_runtime_class(shared: &Shared, pod: &Pod) -> Result<(), String> {
    let Some(name) = pod.spec_or_empty().runtime_class_name.as_deref().filter(|n| !n.is_empty())
    else {
        return Ok(());
    };
    #[derive(serde::Deserialize)]
    struct Class {
        #[serde(default)]
        handler: String,
    }
    let class: Class = shared
        .runtime_classes
        .get_as("", name)
        .ok_or_else(|| format!("failed to get sandbox runtime: RuntimeClass {name:?} not found"))?;
    if class.handler.is_empty() || shared.config.runtime_handlers.contains(&class.handler) {
        return Ok(());
    }
    let handler = class.handler;
    Err(format!("failed to get sandbox runtime: no runtime for {handler:?} is configured"))
}

/// The files of a pod that are mounted into all of its containers.
pub(super) struct Files {
    pub(super) resolv_conf: PathBuf,
    pub(super) hostname: PathBuf,
    pub(super) hosts: PathBuf,
}

impl Files {
    pub(super) fn of(pod_dir: &Path) -> Self {
        Self {
            resolv_conf: pod_dir.join("resolv.conf"),
            hostname: pod_dir.join("hostname"),
            hosts: pod_dir.join("etc-hosts"),
        }
    }

    fn write(&self, resolv_conf: &str, hostname: &str) -> io::Result<()> {
        fs::write(&self.resolv_conf, resolv_conf)?;
        fs::write(&self.hostname, format!("{hostname}\n"))
    }
}
