//! What one pod contributes to a service: its endpoint and the ports that it serves on.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{HEADLESS, MANAGED_BY, OURSELVES, SERVICE_NAME};

/// The ports of a group of endpoints, in an order that compares: name, protocol, port and
/// application protocol of each.
pub(crate) type Ports = Vec<(String, String, i32, Option<String>)>;

/// An endpoint.
pub(crate) type Backend = Endpoint;

/// What `pod` contributes to `service`; nothing while it has no address or when it is over.
pub(crate) fn of_pod(
    service: &Service,
    pod: &Pod,
    zone: impl Fn(&str) -> Option<String>,
) -> Option<(Ports, Backend)> {
    let status = pod.status.as_ref()?;
    let spec = pod.spec.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let addresses: Vec<String> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|address| address.ip.clone())
        .filter(|address| address.parse::<std::net::Ipv4Addr>().is_ok())
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let publish = service.spec.as_ref()?.publish_not_ready_addresses == Some(true);
    let serving = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let node = spec.node_name.clone().filter(|node| !node.is_empty());
    let hostname = spec.hostname.clone().filter(|hostname| {
        !hostname.is_empty() && spec.subdomain.is_some() && spec.subdomain == service.metadata.name
    });
    let backend = Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: node.as_deref().and_then(zone),
        node_name: node,
        hostname,
        ..Endpoint::default()
    };
    Some((ports(service, pod), backend))
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let declared = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut ports: Ports = declared
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = target(port, &protocol, pod)?;
            Some((
                port.name.clone().unwrap_or_default(),
                protocol,
                number,
                port.app_protocol.clone(),
            ))
        })
        .collect();
    ports.sort();
    ports
}

/// The port of the pod behind a port of the service; a named one is looked up in its containers.
fn target(port: &ServicePort, protocol: &str, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| {
            port.name.as_ref() == Some(name)
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
        })
        .map(|port| port.container_port)
}

/// The ports as a slice lists them.
pub(super) fn to_slice_ports(ports: &Ports) -> Vec<EndpointPort> {
    ports
        .iter()
        .map(|(name, protocol, port, app_protocol)| EndpointPort {
            name: Some(name.clone()),
            protocol: Some(protocol.clone()),
            port: Some(*port),
            app_protocol: app_protocol.clone(),
        })
        .collect()
}

/// The ports of a slice in the form that compares.
pub(super) fn from_slice_ports(ports: Option<&[EndpointPort]>) -> Ports {
    let mut ports: Ports = ports
        .unwrap_or_default()
        .iter()
        .map(|port| {
            (
                port.name.clone().unwrap_or_default(),
                port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port.port.unwrap_or(0),
                port.app_protocol.clone(),
            )
        })
        .collect();
    ports.sort();
    ports
}

/// Labels of the slices of `service`: its own, and ours, which win.
pub(super) fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), OURSELVES.to_owned());
    let cluster_ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    match cluster_ip {
        Some("None") => labels.insert(HEADLESS.to_owned(), String::new()),
        _ => labels.remove(HEADLESS),
    };
    labels
}

/// What the names of the slices of a service begin with; shortened so that they stay valid.
pub(crate) fn name_prefix(service: &str) -> String {
    let mut end = service.len().min(247);
    while !service.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-", &service[..end])
}
