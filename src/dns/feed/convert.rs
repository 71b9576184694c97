//! Services and EndpointSlices as [`Record`]s: pure functions.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointPort, EndpointSlice};

use crate::model::{Addresses, Endpoint, Port, Protocol, Record, Subset};

/// Whether the names of a service depend on its endpoints.
pub fn needs_endpoints(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(is_headless)
}

/// What a service's names resolve to. `slices` are its own and matter only if it is headless.
///
/// `None` if it has no names: it has no address yet, or is not complete.
pub fn service_record<'a>(
    service: &Service,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Option<Record> {
    let spec = service.spec.as_ref()?;
    let addresses = if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref().filter(|target| !target.is_empty())?;
        Addresses::ExternalName(target.to_ascii_lowercase())
    } else if is_headless(spec) {
        let not_ready_too = spec.publish_not_ready_addresses.unwrap_or_default();
        Addresses::Headless(subsets(slices, not_ready_too))
    } else {
        let ips = cluster_ips(spec);
        if ips.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port).ok()?;
            make_port(port.name.as_deref(), port.protocol.as_deref(), number)
        });
        Addresses::ClusterIp { ips, ports: ports.collect() }
    };
    let namespace = service.metadata.namespace.clone()?;
    let name = service.metadata.name.clone()?;
    Some(Record { namespace, name, addresses })
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName") && spec.cluster_ip.as_deref() == Some("None")
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let ips: Vec<IpAddr> =
        spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        return spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect();
    }
    ips
}

/// The endpoints of all slices, in an order that depends on nothing but the endpoints.
fn subsets<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    not_ready_too: bool,
) -> Vec<Subset> {
    let mut subsets: Vec<Subset> = Vec::new();
    for slice in slices {
        let published = |endpoint: &&SliceEndpoint| not_ready_too || is_ready(endpoint);
        let endpoints = slice.endpoints.iter().flatten().filter(published).flat_map(|endpoint| {
            let hostname = endpoint.hostname.clone().filter(|hostname| !hostname.is_empty());
            let ips = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
            ips.map(move |ip| Endpoint { ip, hostname: hostname.clone() })
        });
        let ports: Vec<Port> = slice.ports.iter().flatten().filter_map(slice_port).collect();
        match subsets.iter_mut().find(|subset| subset.ports == ports) {
            Some(subset) => subset.endpoints.extend(endpoints),
            None => subsets.push(Subset { ports, endpoints: endpoints.collect() }),
        }
    }
    subsets.retain(|subset| !subset.endpoints.is_empty());
    for subset in &mut subsets {
        subset.endpoints.sort_by(|a, b| (a.ip, &a.hostname).cmp(&(b.ip, &b.hostname)));
        subset.endpoints.dedup();
    }
    subsets.sort_by_key(|subset| subset.endpoints.first().map(|endpoint| endpoint.ip));
    subsets
}

/// A condition that is not known counts as fulfilled (EndpointConditions).
fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn slice_port(port: &EndpointPort) -> Option<Port> {
    let number = u16::try_from(port.port?).ok()?;
    make_port(port.name.as_deref(), port.protocol.as_deref(), number)
}

fn make_port(name: Option<&str>, protocol: Option<&str>, port: u16) -> Option<Port> {
    let protocol = match protocol {
        None | Some("" | "TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    Some(Port { name: name.unwrap_or_default().into(), protocol, port })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        let metadata = json!({"namespace": "default", "name": "web"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn slice(ports: serde_json::Value, endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "web-x"},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn record(spec: serde_json::Value, slices: &[EndpointSlice]) -> Option<serde_json::Value> {
        let record = service_record(&service(spec), slices)?;
        Some(serde_json::to_value(record.addresses).unwrap())
    }

    #[test]
    fn cluster_ip() {
        let spec = json!({
            "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::a"],
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53},
                {"port": 80},
                {"name": "new", "protocol": "QUIC", "port": 81},
            ],
        });
        let expected = json!({"clusterIp": {
            "ips": ["10.96.0.10", "fd00::a"],
            "ports": [{"name": "dns", "protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 80}],
        }});
        assert_eq!(record(spec, &[]), Some(expected));
        let old = json!({"clusterIP": "10.96.0.1"});
        let expected = json!({"clusterIp": {"ips": ["10.96.0.1"], "ports": []}});
        assert_eq!(record(old, &[]), Some(expected));
    }

    #[test]
    fn without_address() {
        assert_eq!(record(json!({}), &[]), None);
        assert_eq!(record(json!({"clusterIP": ""}), &[]), None);
        assert_eq!(record(json!({"type": "ExternalName", "externalName": ""}), &[]), None);
    }

    #[test]
    fn external_name() {
        let spec =
            json!({"type": "ExternalName", "externalName": "Db.Example.com", "clusterIP": "None"});
        assert_eq!(record(spec, &[]), Some(json!({"externalName": "db.example.com"})));
    }

    #[test]
    fn headless() {
        let http = json!([{"name": "http", "port": 8080}]);
        let slices = [
            slice(
                http.clone(),
                json!([
                    {"addresses": ["10.0.0.3"]},
                    {"addresses": ["10.0.0.1"], "hostname": "web-0", "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.2"], "hostname": "web-1", "conditions": {"ready": false}},
                ]),
            ),
            slice(http, json!([{"addresses": ["10.0.0.1"], "hostname": "web-0"}])),
            slice(json!([{"name": "http", "port": 9090}]), json!([{"addresses": ["10.0.0.4"]}])),
        ];
        let port = |number| json!([{"name": "http", "protocol": "TCP", "port": number}]);
        let expected = json!({"headless": [
            {"ports": port(8080), "endpoints": [
                {"ip": "10.0.0.1", "hostname": "web-0"}, {"ip": "10.0.0.3"}]},
            {"ports": port(9090), "endpoints": [{"ip": "10.0.0.4"}]},
        ]});
        let spec = json!({"clusterIP": "None"});
        assert_eq!(record(spec.clone(), &slices), Some(expected.clone()));
        let reversed: Vec<EndpointSlice> = slices.iter().rev().cloned().collect();
        assert_eq!(record(spec, &reversed), Some(expected));

        let all = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
        let record = record(all, &slices).unwrap();
        assert_eq!(record["headless"][0]["endpoints"].as_array().unwrap().len(), 3);
    }
}
