//! Pods and Services as targets of `proxy`.

use std::net::IpAddr;

use apimachinery::Status;
use http::request::Parts;
use rand::RngExt;
use serde_json::Value;

use super::{Target, path_behind};
use crate::registry::{Call, modify::stored_value};

/// `name`, `name:port` or `scheme:name:port`.
fn split(id: &str) -> Option<(&str, &str, &str)> {
    let mut parts = id.split(':');
    let split = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        (name, None, ..) => ("", name, ""),
        (name, Some(port), None, _) => ("", name, port),
        (scheme @ ("" | "http" | "https"), Some(name), Some(port), None) => (scheme, name, port),
        _ => return None,
    };
    (!split.1.is_empty()).then_some(split)
}

fn target(scheme: &str, host: &str, port: u16, path: String) -> Target {
    // Pods show certificates of their own; upstream does not verify them either.
    let tls = (scheme == "https").then(super::forward::unverified_tls);
    Target { host: host.to_owned(), port, tls, path }
}

/// Where a proxied request to a pod goes.
pub(super) fn pod(call: &Call<'_>, parts: &Parts) -> Result<Target, Status> {
    let id = &call.info.name;
    let (scheme, name, port) =
        split(id).ok_or_else(|| Status::bad_request(format!("invalid pod request {id:?}")))?;
    let found = call.collection()?.get(&call.key(name));
    let pod = found.ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    let pod = stored_value(&pod)?;
    let mut ports = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["ports"][0]["containerPort"].as_u64());
    let port = match port {
        "" => ports.next().and_then(|port| u16::try_from(port).ok()),
        text => Some(
            text.parse().map_err(|_| Status::bad_request(format!("invalid pod request {id:?}")))?,
        ),
    };
    let default = if scheme == "https" { 443 } else { 80 };
    let address = pod["status"]["podIPs"][0]["ip"].as_str().unwrap_or_default();
    if !is_reachable(address) {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(target(scheme, address, port.unwrap_or(default), path_behind(parts, call)))
}

/// Whether `address` can be a pod's: never the host's own loopback or a link-local one.
fn is_reachable(address: &str) -> bool {
    match address.parse() {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_unspecified())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || ip.is_unspecified())
        }
        Err(_) => false,
    }
}

/// Where a proxied request to a Service goes: to one of its ready endpoints.
pub(super) fn service(call: &Call<'_>, parts: &Parts) -> Result<Target, Status> {
    let id = &call.info.name;
    let (scheme, name, port) =
        split(id).ok_or_else(|| Status::bad_request(format!("invalid service request {id:?}")))?;
    let namespace = &call.info.namespace;
    let mut port_name = port.to_owned();
    if let Ok(number) = port.parse::<u64>() {
        let found = call.collection()?.get(&call.key(name));
        let service = found.ok_or_else(|| Status::not_found(call.group_resource(), name))?;
        let service = stored_value(&service)?;
        let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let declared =
            ports.find(|port| port["port"].as_u64() == Some(number)).ok_or_else(|| {
                Status::unavailable(format!("no service port {number} found for service {name:?}"))
            })?;
        declared["name"].as_str().unwrap_or_default().clone_into(&mut port_name);
    }
    let mut candidates = Vec::new();
    if let Some(slices) = call.server.collection("discovery.k8s.io", "endpointslices") {
        for slice in slices.snapshot().range(namespace) {
            if slice.label("kubernetes.io/service-name") == Some(name) {
                collect(call, &stored_value(slice)?, &port_name, &mut candidates);
            }
        }
    }
    if candidates.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service {name:?}")));
    }
    let (address, port) = candidates.swap_remove(rand::rng().random_range(0..candidates.len()));
    Ok(target(scheme, &address, port, path_behind(parts, call)))
}

/// The ready endpoints of a slice that are pods of the namespace.
fn collect(call: &Call<'_>, slice: &Value, port_name: &str, out: &mut Vec<(String, u16)>) {
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
        let pod = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
        let namespace = &*call.info.namespace;
        let known = call.server.get("", "pods", namespace, pod).is_some_and(|pod| {
            pod.value().is_ok_and(|pod| {
                let mut ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
                ips.any(|ip| ip["ip"] == address)
            })
        });
        let ready = endpoint["conditions"]["ready"] != false;
        if ready && known && is_reachable(address) {
            out.push((address.to_owned(), port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_in_three_ways() {
        assert_eq!(split("a"), Some(("", "a", "")));
        assert_eq!(split("a:80"), Some(("", "a", "80")));
        assert_eq!(split("https:a:web"), Some(("https", "a", "web")));
        assert_eq!(split("https:a:"), Some(("https", "a", "")));
        for bad in ["", ":80", "ftp:a:80", "https:a:80:b", "http::80"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_host_itself_is_no_pod() {
        for address in ["127.0.0.1", "169.254.169.254", "::1", "", "0.0.0.0", "name"] {
            assert!(!is_reachable(address), "{address}");
        }
        assert!(is_reachable("10.42.0.7") && is_reachable("fd00::7"));
    }
}
