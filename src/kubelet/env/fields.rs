//! The downward API: fields of the pod and resources of its containers as text.

use std::{collections::BTreeMap, net::IpAddr};

use apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::{Facts, Result};
use crate::{podspec::PodExt, resources::amount};

/// The value of `path` of a pod, e.g. `metadata.labels['app']` or `status.podIP`.
pub(crate) fn field_value(pod: &Pod, path: &str, facts: &Facts<'_>) -> Result<String> {
    let list = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let spec = pod.spec_or_empty();
    if let Some((map, key)) = subscript(path) {
        let found = match map {
            "metadata.annotations" => pod.metadata.annotations.as_ref().and_then(|m| m.get(key)),
            "metadata.labels" => pod.metadata.labels.as_ref().and_then(|m| m.get(key)),
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(found.cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => formatted(pod.metadata.labels.as_ref()),
        "metadata.annotations" => formatted(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(facts.host_ips),
        "status.hostIPs" => list(facts.host_ips),
        "status.podIP" => first(facts.pod_ips),
        "status.podIPs" => list(facts.pod_ips),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, rest))
}

/// A map as lines `key="value"`, sorted by key, with the value quoted as Go's `%q` does.
fn formatted(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a resource of a container, rounded up to whole divisors. Without a limit it is what
/// the node has for pods.
pub(crate) fn resource_value(
    pod: &Pod,
    own: Option<&Container>,
    field: &ResourceFieldSelector,
    facts: &Facts<'_>,
) -> Result<String> {
    let found;
    let container = match field.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            found = pod.find_container(name);
            match &found {
                Some((_, container)) => container,
                None => return Err(format!("container {name} not found")),
            }
        }
        None => own.ok_or_else(|| "containerName is required".to_owned())?,
    };
    let resources = container.resources.as_ref();
    let path = field.resource.as_str();
    let (kind, name) =
        path.split_once('.').ok_or_else(|| format!("unsupported container resource : {path}"))?;
    let known =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    let value = match kind {
        "limits" if known => {
            let limit = amount(resources.and_then(|r| r.limits.as_ref()), name);
            if limit.is_zero() { default_limit(pod, name, facts) } else { limit }
        }
        "requests" if known => amount(resources.and_then(|r| r.requests.as_ref()), name),
        _ => return Err(format!("unsupported container resource : {path}")),
    };
    let divisor = field
        .divisor
        .as_ref()
        .and_then(|text| Quantity::parse(&text.0).ok())
        .filter(|divisor| !divisor.is_zero())
        .unwrap_or(Quantity::new(1, apimachinery::quantity::Format::DecimalSi));
    Ok(divided(value, divisor, name).to_string())
}

fn default_limit(pod: &Pod, name: &str, facts: &Facts<'_>) -> Quantity {
    let level = pod.spec_or_empty().resources.as_ref().and_then(|r| r.limits.as_ref());
    let of_pod = amount(level, name);
    if !of_pod.is_zero() {
        return of_pod;
    }
    let whole = |value| Quantity::new(value, apimachinery::quantity::Format::DecimalSi);
    match name {
        "cpu" => Quantity::from_milli(facts.allocatable_cpu),
        "memory" => whole(facts.allocatable_memory),
        "ephemeral-storage" => whole(facts.allocatable_storage),
        _ => Quantity::ZERO,
    }
}

fn divided(value: Quantity, divisor: Quantity, name: &str) -> i64 {
    let (value, divisor) = if name == "cpu" {
        (value.milli_value(), divisor.milli_value())
    } else {
        (value.value(), divisor.value())
    };
    let divisor = divisor.max(1);
    value / divisor + i64::from(value % divisor > 0)
}
