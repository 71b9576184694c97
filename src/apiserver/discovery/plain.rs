//! The old form of discovery: one document for the groups, one for each group and version.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    Shared,
    aggregator::Remote,
    registry::{resource::Resource, resources::Table},
};

/// A group with its versions, the preferred one first.
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// Its versions.
    pub versions: Vec<Arc<str>>,
}

/// The groups but the core one, in order; those of other servers last.
pub fn group_list(table: &Table, remotes: &[Arc<Remote>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut add = |name: &str, version: &str| {
        let at = groups.iter().position(|group| *group.name == *name).unwrap_or_else(|| {
            groups.push(Group { name: name.into(), versions: Vec::new() });
            groups.len() - 1
        });
        let versions = &mut groups[at].versions;
        if !versions.iter().any(|known| **known == *version) {
            versions.push(version.into());
        }
    };
    for resource in table.all.iter().filter(|r| !r.group_resource.group.is_empty()) {
        for version in &resource.versions {
            add(&version.gvk.group, &version.gvk.version);
        }
    }
    for remote in remotes {
        add(&remote.group, &remote.version);
    }
    for group in &mut groups {
        group.versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
    }
    groups
}

/// How versions are ordered: stable before beta before alpha, higher numbers first.
pub fn version_priority(version: &str) -> (u8, u64, u64) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Ok(major) = rest[..digits].parse() else { return (0, 0, 0) };
    let number = |text: &str| text.parse().unwrap_or(0);
    match &rest[digits..] {
        "" => (3, major, 0),
        stage => match (stage.strip_prefix("beta"), stage.strip_prefix("alpha")) {
            (Some(minor), _) => (2, major, number(minor)),
            (_, Some(minor)) => (1, major, number(minor)),
            _ => (0, 0, 0),
        },
    }
}

/// `/api`.
pub fn api_versions(server: &Shared) -> Option<Value> {
    Some(json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            { "clientCIDR": "0.0.0.0/0", "serverAddress": server.config.advertise.to_string() }
        ],
    }))
}

fn group_value(group: &Group) -> Value {
    let entry = |version: &Arc<str>| json!({ "groupVersion": format!("{}/{version}", group.name), "version": &**version });
    json!({
        "name": &*group.name,
        "versions": group.versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(entry),
    })
}

/// `/apis`.
pub fn groups(table: &Table, remotes: &[Arc<Remote>]) -> Value {
    let groups: Vec<Value> = group_list(table, remotes).iter().map(group_value).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`.
pub fn group(table: &Table, remotes: &[Arc<Remote>], name: &str) -> Option<Value> {
    let groups = group_list(table, remotes);
    let mut value = group_value(groups.iter().find(|group| &*group.name == name)?);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub fn resources(table: &Table, group: &str, version: &str) -> Option<Value> {
    if !table.has_version(group, version) {
        return None;
    }
    let mut entries = Vec::new();
    for resource in table.all.iter().filter(|r| &*r.group_resource.group == group) {
        let Some(served) = resource.versions.iter().find(|v| &*v.gvk.version == version) else {
            continue;
        };
        let facts = &served.facts;
        let mut entry = json!({
            "name": facts.plural, "singularName": facts.singular,
            "namespaced": facts.namespaced, "kind": facts.kind, "verbs": facts.verbs,
        });
        if !facts.short_names.is_empty() {
            entry["shortNames"] = json!(facts.short_names);
        }
        if !facts.categories.is_empty() {
            entry["categories"] = json!(facts.categories);
        }
        if resource.collection.is_some() {
            entry["storageVersionHash"] = storage_hash(resource).into();
        }
        entries.push(entry);
        for sub in &facts.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", facts.plural, sub.name), "singularName": "",
                "namespaced": facts.namespaced, "kind": sub.kind, "verbs": sub.verbs,
            });
            if (&*sub.group, &*sub.version) != (group, version) {
                entry["group"] = sub.group.as_str().into();
                entry["version"] = sub.version.as_str().into();
            }
            entries.push(entry);
        }
    }
    let group_version = apimachinery::resource::join_api_version(group, version);
    let mut value = json!({
        "kind": "APIResourceList", "groupVersion": group_version, "resources": entries,
    });
    // The core group's list is older than the convention.
    if !group.is_empty() {
        value["apiVersion"] = "v1".into();
    }
    Some(value)
}

/// A mark of the version in which objects are stored.
fn storage_hash(resource: &Resource) -> String {
    if let Some(known) = &resource.versions[0].facts.storage_version_hash {
        return known.clone();
    }
    let stored = &resource.storage;
    let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    STANDARD.encode(&digest.as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability() {
        let mut versions =
            ["v1alpha1", "foo", "v2", "v1", "v1beta2", "v11beta1", "v10", "v1beta10"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v11beta1", "v1beta10", "v1beta2", "v1alpha1", "foo"]
        );
    }
}
