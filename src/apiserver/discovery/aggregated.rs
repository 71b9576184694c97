//! Aggregated discovery: everything in one document for `/api` and one for `/apis`.

use std::sync::Arc;

use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{plain, tagged};
use crate::{
    aggregator::Remote,
    http::body::Response,
    registry::{
        resource::{Resource, Version},
        resources::Table,
    },
};

/// The version of the aggregated form that a client prefers, if it prefers one.
pub fn wanted(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    // The order of the header is that of preference; qualities are not used here by any client.
    accept.split(',').find_map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next()?;
        if media == "application/json" && !clause.contains("as=") {
            return Some(None);
        }
        let parameters: Vec<&str> = parts.collect();
        let discovery = media == "application/json"
            && parameters.contains(&"g=apidiscovery.k8s.io")
            && parameters.contains(&"as=APIGroupDiscoveryList");
        match discovery {
            true if parameters.contains(&"v=v2") => Some(Some("v2")),
            _ => None,
        }
    })?
}

/// The document.
pub fn answer(
    table: &Table,
    remotes: &[Arc<Remote>],
    core: bool,
    version: &'static str,
    headers: &HeaderMap,
) -> Response {
    let mut items = Vec::new();
    if core {
        items.push(json!({
            "metadata": {},
            "versions": [{ "version": "v1", "resources": resources(table, "", "v1"),
                "freshness": "Current" }],
        }));
    } else {
        for group in plain::group_list(table, remotes) {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let other =
                        remotes.iter().find(|r| *r.group == *group.name && *r.version == **version);
                    let freshness = match other {
                        Some(remote) if !remote.available => "Stale",
                        _ => "Current",
                    };
                    let resources = match other {
                        Some(remote) => of_remote(remote),
                        None => resources(table, &group.name, version),
                    };
                    json!({
                        "version": &**version, "freshness": freshness, "resources": resources,
                    })
                })
                .collect();
            items.push(json!({
                "metadata": { "name": &*group.name },
                "versions": versions,
            }));
        }
    }
    let document = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    });
    tagged(
        serde_json::to_vec(&document).unwrap_or_default(),
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        headers,
    )
}

fn resources(table: &Table, group: &str, version: &str) -> Vec<Value> {
    table
        .all
        .iter()
        .filter(|resource| &*resource.group_resource.group == group)
        .filter_map(|resource| {
            let served = resource.versions.iter().find(|v| &*v.gvk.version == version)?;
            Some(entry(resource, served))
        })
        .collect()
}

/// The resources of another server, from the plain form in which it was asked.
fn of_remote(remote: &Remote) -> Vec<Value> {
    let all = remote.resources["resources"].as_array().map_or(&[][..], Vec::as_slice);
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let kind = |entry: &Value| {
        let text = |field: &str, own: &str| entry[field].as_str().unwrap_or(own).to_owned();
        json!({
            "group": text("group", &remote.group), "version": text("version", &remote.version),
            "kind": entry["kind"],
        })
    };
    let mut resources = Vec::new();
    for entry in all.iter().filter(|entry| !name(entry).contains('/')) {
        let prefix = format!("{}/", name(entry));
        let mut resource = json!({
            "resource": entry["name"], "singularResource": entry["singularName"],
            "verbs": entry["verbs"], "responseKind": kind(entry),
            "scope": if entry["namespaced"] == true { "Namespaced" } else { "Cluster" },
        });
        for field in ["shortNames", "categories"] {
            if entry[field].is_array() {
                resource[field] = entry[field].clone();
            }
        }
        let subresources: Vec<Value> = all
            .iter()
            .filter_map(|sub| {
                let name = name(sub);
                let name = name.strip_prefix(&prefix)?;
                Some(json!({
                    "subresource": name, "verbs": sub["verbs"], "responseKind": kind(sub),
                }))
            })
            .collect();
        if !subresources.is_empty() {
            resource["subresources"] = subresources.into();
        }
        resources.push(resource);
    }
    resources
}

fn entry(resource: &Resource, version: &Version) -> Value {
    let facts = &version.facts;
    // The group and version that the document stands under are left out.
    let kind = |group: &str, version: &str, kind: &str| {
        let own = (group, version) == (&*facts.group, &*facts.version);
        let (group, version) = if own { ("", "") } else { (group, version) };
        json!({ "group": group, "version": version, "kind": kind })
    };
    let mut entry = json!({
        "resource": facts.plural, "singularResource": facts.singular, "verbs": facts.verbs,
        "responseKind": kind(&facts.group, &facts.version, &facts.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
    });
    if !facts.short_names.is_empty() {
        entry["shortNames"] = json!(facts.short_names);
    }
    if !facts.categories.is_empty() {
        entry["categories"] = json!(facts.categories);
    }
    if !facts.subresources.is_empty() {
        let subresources = facts.subresources.iter().map(|sub| {
            json!({
                "subresource": sub.name, "verbs": sub.verbs,
                "responseKind": kind(&sub.group, &sub.version, &sub.kind),
            })
        });
        entry["subresources"] = subresources.collect::<Vec<_>>().into();
    }
    entry
}
