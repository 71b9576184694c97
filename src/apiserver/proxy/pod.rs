//! Pods and Services as targets of `proxy`.

use std::net::IpAddr;

use apimachinery::Status;
use http::request::Parts;

use super::{path_behind, service::endpoint};
use crate::{
    http::client::{self, Target, Trust},
    registry::{Call, modify::stored_value},
};

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

fn target(scheme: &str, host: &str, port: u16, path: String) -> Result<Target, Status> {
    // Pods show certificates of their own; upstream does not verify them either.
    let tls = match scheme {
        "https" => Some(client::tls(&Trust::Anyone, None).map_err(Status::internal)?),
        _ => None,
    };
    Ok(Target { host: host.to_owned(), port, name: None, tls, path })
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
    target(scheme, address, port.unwrap_or(default), path_behind(parts, call))
}

/// Whether `address` can be a pod's: never the host's own loopback or a link-local one.
pub(super) fn is_reachable(address: &str) -> bool {
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
    let (address, port) = endpoint(call.server, namespace, name, port, true)?;
    target(scheme, &address, port, path_behind(parts, call))
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
