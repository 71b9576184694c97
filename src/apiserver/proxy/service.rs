//! Services as this server reaches them: by one of their endpoints, for the addresses of Services
//! are known to nodes and not to every machine that this server may run on.

use apimachinery::Status;
use rand::RngExt;
use serde_json::Value;

use crate::{Shared, registry::modify::stored_value};

/// An endpoint of a Service: address and port.
///
/// # Errors
/// 404 for an unknown Service, 503 when it has no such port or nothing is ready behind it.
pub(crate) fn endpoint(
    server: &Shared,
    namespace: &str,
    name: &str,
    port: &str,
    only_pods: bool,
) -> Result<(String, u16), Status> {
    let unavailable =
        || Status::unavailable(format!("no endpoints available for service {name:?}"));
    let mut port_name = port.to_owned();
    let service = server.get("", "services", namespace, name);
    if let Ok(number) = port.parse::<u64>() {
        let resource = apimachinery::GroupResource::new("", "services");
        let service = service.as_ref().ok_or_else(|| Status::not_found(&resource, name))?;
        let service = stored_value(service)?;
        let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let declared =
            ports.find(|port| port["port"].as_u64() == Some(number)).ok_or_else(|| {
                Status::unavailable(format!("no service port {number} found for service {name:?}"))
            })?;
        declared["name"].as_str().unwrap_or_default().clone_into(&mut port_name);
    }
    let mut candidates = Vec::new();
    let slices = server.collection("discovery.k8s.io", "endpointslices").ok_or_else(unavailable)?;
    for slice in slices.snapshot().range(namespace) {
        if slice.label("kubernetes.io/service-name") == Some(name) {
            let slice = stored_value(slice)?;
            collect(server, namespace, &slice, &port_name, only_pods, &mut candidates);
        }
    }
    if candidates.is_empty() {
        return Err(unavailable());
    }
    Ok(candidates.swap_remove(rand::rng().random_range(0..candidates.len())))
}

/// The ready endpoints of a slice.
fn collect(
    server: &Shared,
    namespace: &str,
    slice: &Value,
    port_name: &str,
    only_pods: bool,
    out: &mut Vec<(String, u16)>,
) {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let wanted = ports.find(|port| {
        port_name.is_empty() || port["name"].as_str().unwrap_or_default() == port_name
    });
    let Some(port) = wanted.and_then(|p| p["port"].as_u64()).and_then(|p| u16::try_from(p).ok())
    else {
        return;
    };
    for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
        let Some(address) = endpoint["addresses"][0].as_str() else { continue };
        let ready = endpoint["conditions"]["ready"] != false;
        if ready && (!only_pods || is_pod(server, namespace, endpoint, address)) {
            out.push((address.to_owned(), port));
        }
    }
}

/// Whether an endpoint is a pod of the namespace: what a user may reach through the proxy.
fn is_pod(server: &Shared, namespace: &str, endpoint: &Value, address: &str) -> bool {
    let name = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
    let pod = server.get("", "pods", namespace, name);
    super::pod::is_reachable(address)
        && pod.and_then(|pod| pod.value().ok()).is_some_and(|pod| {
            let mut ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
            ips.any(|ip| ip["ip"] == address)
        })
}
