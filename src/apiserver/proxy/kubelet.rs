//! The kubelet of a node, and what of it serves a pod's streams and logs.

use std::fmt::Write;

use apimachinery::{
    GroupVersionKind, Object, Status,
    field::{FieldError, Path},
};
use serde_json::Value;

use crate::{
    http::client::Target,
    registry::{Call, modify::stored_value},
};

/// The kubelet's port where the node does not tell.
const PORT: u16 = 10250;

/// Where the log of a container is; nothing while its pod has no node.
pub(super) fn log(call: &Call<'_>) -> Result<Option<Target>, Status> {
    check_log_options(call)?;
    let pod = pod(call)?;
    let container = container(call, &pod)?;
    let Some(node) = node_of(&pod) else { return Ok(None) };
    let mut query = String::new();
    for name in ["follow", "previous", "timestamps"] {
        if call.query.flag(name) == Some(true) {
            push(&mut query, name, "true");
        }
    }
    for name in ["sinceSeconds", "tailLines", "limitBytes"] {
        if let Some(number) = call.query.number(name)? {
            push(&mut query, name, &number.to_string());
        }
    }
    if let Some(text) = call.query.text("sinceTime") {
        push(&mut query, "sinceTime", text);
    }
    let path = format!("/containerLogs/{}/{}/{container}", call.info.namespace, call.info.name);
    target(call, node, &path, &query).map(Some)
}

/// Upstream's `ValidatePodLogOptions`.
fn check_log_options(call: &Call<'_>) -> Result<(), Status> {
    let mut errors = Vec::new();
    for (name, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(number) = call.query.number(name)?.filter(|number| *number < least) {
            errors.push(FieldError::invalid(&Path::root(name), number, why));
        }
    }
    let has = |name| call.query.text(name).is_some();
    if has("sinceSeconds") && has("sinceTime") {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::root(""), why));
    }
    if has("stream") {
        // KEP-3288 is off by default.
        errors.push(FieldError::forbidden(&Path::root("stream"), "may not be specified"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupVersionKind::new("", "v1", "PodLogOptions");
    Err(Status::invalid(&kind, &call.info.name, &errors))
}

/// Where exec, attach and port-forward go.
pub(super) fn stream(call: &Call<'_>) -> Result<Target, Status> {
    let pod = pod(call)?;
    let subresource = &*call.info.subresource;
    let mut query = String::new();
    let mut path = match subresource {
        "portforward" => "/portForward",
        "attach" => "/attach",
        _ => "/exec",
    }
    .to_owned();
    let _ = write!(path, "/{}/{}", call.info.namespace, call.info.name);
    if subresource == "portforward" {
        let ports: Vec<&str> = call.query.all("ports").collect();
        if !ports.is_empty() {
            push(&mut query, "port", &ports.join(","));
        }
    } else {
        let container = container(call, &pod)?;
        let _ = write!(path, "/{container}");
        for (name, there) in
            [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
        {
            if call.query.flag(name) == Some(true) {
                push(&mut query, there, "1");
            }
        }
        for word in call.query.all("command") {
            push(&mut query, "command", word);
        }
    }
    let node = node_of(&pod).ok_or_else(|| {
        Status::bad_request(format!("pod {} does not have a host assigned", call.info.name))
    })?;
    target(call, node, &path, &query)
}

/// The kubelet's own API.
pub(super) fn node(call: &Call<'_>, path: String) -> Result<Target, Status> {
    // `node`, `node:port` or `scheme:node:port`.
    let name = call.info.name.split(':').find(|part| !matches!(*part, "http" | "https"));
    let mut target = target(call, name.unwrap_or_default(), "", "")?;
    target.path = path;
    Ok(target)
}

fn pod(call: &Call<'_>) -> Result<Value, Status> {
    let name = &call.info.name;
    let found = call.collection()?.get(&call.key(name));
    let pod = found.ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    stored_value(&pod)
}

fn node_of(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())
}

fn push(query: &mut String, name: &str, value: &str) {
    query.push(if query.is_empty() { '?' } else { '&' });
    query.push_str(name);
    query.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            let _ = write!(query, "%{byte:02X}");
        }
    }
}

/// The container that is meant: the one named, or the only one there is.
fn container(call: &Call<'_>, pod: &Value) -> Result<String, Status> {
    let names = |list: &str| -> Vec<&str> {
        let list = pod["spec"][list].as_array().into_iter().flatten();
        list.filter_map(|container| container["name"].as_str()).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    let pod_name = &call.info.name;
    if let Some(name) = call.query.text("container") {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|known| *known == name);
        return if known {
            Ok(name.to_owned())
        } else {
            Err(Status::bad_request(format!("container {name} is not valid for pod {pod_name}")))
        };
    }
    match (main.as_slice(), init.is_empty()) {
        ([only], _) => Ok((*only).to_owned()),
        ([], _) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}"
        ))),
        (many, no_init) => {
            let mut text = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                many.join(" ")
            );
            if !no_init {
                let _ = write!(text, " or one of the init containers: [{}]", init.join(" "));
            }
            Err(Status::bad_request(text))
        }
    }
}

fn target(call: &Call<'_>, node: &str, path: &str, query: &str) -> Result<Target, Status> {
    let object = call.server.get("", "nodes", "", node);
    let resource = apimachinery::GroupResource::new("", "nodes");
    let object = object.ok_or_else(|| Status::not_found(&resource, node))?;
    let (host, port) = address(&object)?;
    let Some(tls) = call.server.config.kubelet_tls.clone() else {
        return Err(Status::unavailable("this server has no credentials for kubelets"));
    };
    Ok(Target { host, port, name: None, tls: Some(tls), path: format!("{path}{query}") })
}

/// How the node's kubelet is reached.
fn address(node: &Object) -> Result<(String, u16), Status> {
    let value = stored_value(node)?;
    let addresses = value["status"]["addresses"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |kind: &str| {
        let found = addresses.iter().find(|address| address["type"] == kind);
        found.and_then(|address| address["address"].as_str())
    };
    let host = ["InternalIP", "Hostname", "InternalDNS", "ExternalIP", "ExternalDNS"]
        .into_iter()
        .find_map(of)
        .ok_or_else(|| {
            Status::internal(format!(
                "no preferred addresses found; known addresses: {addresses:?}"
            ))
        })?;
    let port = value["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    Ok((host.to_owned(), port.unwrap_or(PORT)))
}
