//! From a Service and its EndpointSlices to what the kernel is told, after kube-proxy's rules.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort as ApiPort, ServiceSpec},
    discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice},
};
use network::proxy::{Endpoint, Protocol, ServicePort};

/// How long a client stays with its endpoint where nothing else is said (upstream's default).
const AFFINITY: i32 = 10_800;

/// The ports of `service`; none for headless and ExternalName services, which DNS answers alone.
pub(crate) fn ports(service: &Service, slices: &[EndpointSlice], node: &str) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let cluster_ips: Vec<Ipv4Addr> = match &spec.cluster_ips {
        Some(all) => addresses(all.iter()),
        None => addresses(spec.cluster_ip.iter()),
    };
    if spec.type_.as_deref() == Some("ExternalName") || cluster_ips.is_empty() {
        return Vec::new();
    }
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let is_local = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Local");
    let load_balancer = load_balancer(service);
    spec.ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let port_name = port.name.as_deref().unwrap_or_default();
            Some(ServicePort {
                id: format!("{namespace}/{name}:{port_name}"),
                protocol: protocol(port.protocol.as_deref())?,
                cluster_ips: cluster_ips.clone(),
                port: u16::try_from(port.port).ok()?,
                node_port: node_port(port),
                external_ips: addresses(spec.external_ips.iter().flatten()),
                load_balancer_ips: load_balancer.clone(),
                load_balancer_source_ranges: source_ranges(spec),
                endpoints: endpoints(slices, port_name, node),
                affinity: affinity(spec),
                external_traffic_local: is_local(spec.external_traffic_policy.as_ref()),
                internal_traffic_local: is_local(spec.internal_traffic_policy.as_ref()),
            })
        })
        .collect()
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Ipv4Addr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn node_port(port: &ApiPort) -> Option<u16> {
    u16::try_from(port.node_port?).ok().filter(|port| *port > 0)
}

/// Addresses of the load balancer, but for those of mode Proxy, whose packets arrive at the node's
/// own address (KEP-1860).
fn load_balancer(service: &Service) -> Vec<Ipv4Addr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status
        .into_iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten())
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect()
}

fn source_ranges(spec: &ServiceSpec) -> Vec<network::Cidr> {
    spec.load_balancer_source_ranges
        .iter()
        .flatten()
        .filter_map(|range| range.trim().parse().ok())
        .collect()
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(AFFINITY);
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What an endpoint says of itself.
#[derive(Clone, Copy)]
struct Candidate {
    ready: bool,
    /// Serving while it shuts down: used when nothing ready is left (KEP-1669).
    last_resort: bool,
    local: bool,
}

/// The endpoints of one port that may be used now. Policies "Cluster" and "Local" choose apart:
/// each takes the ready ones or, if it has none, those that still serve while they shut down.
fn endpoints(slices: &[EndpointSlice], port_name: &str, node: &str) -> Vec<Endpoint> {
    // One pod may be in two slices while it moves between them.
    let mut candidates: BTreeMap<(Ipv4Addr, u16), Candidate> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        let port = slice
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref().unwrap_or_default() == port_name)
            .and_then(|port| u16::try_from(port.port?).ok());
        let Some(port) = port else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            if let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) {
                candidates.insert((address, port), candidate(endpoint, node));
            }
        }
    }
    let any_ready = candidates.values().any(|candidate| candidate.ready);
    let any_local_ready = candidates.values().any(|candidate| candidate.ready && candidate.local);
    let usable = |candidate: &Candidate, any_ready: bool| {
        candidate.ready || (!any_ready && candidate.last_resort)
    };
    candidates
        .into_iter()
        .filter_map(|((ip, port), candidate)| {
            let cluster = usable(&candidate, any_ready);
            let local = candidate.local && usable(&candidate, any_local_ready);
            (cluster || local).then_some(Endpoint { ip, port, local, cluster })
        })
        .collect()
}

fn candidate(endpoint: &ApiEndpoint, node: &str) -> Candidate {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // An absent condition means ready (the field's documentation).
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    Candidate {
        ready,
        last_resort: serving && conditions.terminating == Some(true),
        local: endpoint.node_name.as_deref() == Some(node),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({"metadata": {}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}))
        .unwrap()
    }

    fn chosen(endpoints_: Value) -> Vec<(String, bool, bool)> {
        endpoints(&[slice(endpoints_)], "http", "here")
            .into_iter()
            .map(|e| (format!("{}:{}", e.ip, e.port), e.local, e.cluster))
            .collect()
    }

    fn endpoint(address: &str, node: &str, ready: bool, terminating: bool) -> Value {
        json!({"addresses": [address], "nodeName": node, "conditions":
            {"ready": ready && !terminating, "serving": ready, "terminating": terminating}})
    }

    #[test]
    fn ready_endpoints_are_used_and_others_not() {
        let found = chosen(json!([
            endpoint("10.0.0.1", "here", true, false),
            endpoint("10.0.0.2", "there", true, false),
            endpoint("10.0.0.3", "here", false, false),
            endpoint("10.0.0.4", "here", true, true),
        ]));
        let expected =
            [("10.0.0.1:8080".into(), true, true), ("10.0.0.2:8080".into(), false, true)];
        assert_eq!(found, expected);
    }

    #[test]
    fn endpoints_that_shut_down_serve_when_none_is_ready() {
        let found = chosen(json!([
            endpoint("10.0.0.1", "here", true, true),
            endpoint("10.0.0.2", "here", false, true),
        ]));
        assert_eq!(found, [("10.0.0.1:8080".into(), true, true)]);
        let found = chosen(json!([
            endpoint("10.0.0.1", "here", true, true),
            endpoint("10.0.0.2", "there", true, false),
        ]));
        let expected =
            [("10.0.0.1:8080".into(), true, false), ("10.0.0.2:8080".into(), false, true)];
        assert_eq!(found, expected, "the local one is a last resort for policy Local alone");
    }

    #[test]
    fn headless_services_have_no_ports_in_the_kernel() {
        let service = json!({"metadata": {"name": "s", "namespace": "n"},
            "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
        let service: Service = serde_json::from_value(service).unwrap();
        assert!(ports(&service, &[], "here").is_empty());
    }
}
