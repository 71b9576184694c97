//! The APIServices of what this server serves itself: they show what there is and in which order.

use apimachinery::{Draft, Key, Object};
use serde_json::{Value, json};
use storage::{Collection, Write};
use tracing::warn;

use crate::{Shared, registry::resources::Table};

/// Label of the APIServices that are made here: `onstart` for built-in ones, `true` for those of
/// custom resources, which go when they go.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Priorities of the built-in groups (upstream's): of the group and of the version.
const PRIORITIES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("storagemigration.k8s.io", "v1", 15800, 15),
];

/// Creates the APIServices that are missing and deletes those of custom resources that are gone.
pub async fn reconcile(server: &Shared, services: &Collection, table: &Table) {
    let mut wanted: Vec<(String, Value)> = Vec::new();
    for resource in &table.all {
        for version in &resource.versions {
            let (group, version) = (&*version.gvk.group, &*version.gvk.version);
            // The group of APIServices itself is the aggregator's own and has none.
            if group == "apiregistration.k8s.io" {
                continue;
            }
            let name = format!("{version}.{group}");
            if wanted.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let row = PRIORITIES.iter().find(|(g, v, ..)| (*g, *v) == (group, version));
            let (of_group, of_version) = row.map_or((1000, 100), |(_, _, g, v)| (*g, *v));
            let managed = if resource.is_custom() { "true" } else { "onstart" };
            wanted
                .push((name.clone(), object(&name, group, version, of_group, of_version, managed)));
        }
    }
    for (name, object) in &wanted {
        if services.get(&Key::new("", name.as_str())).is_none() {
            write(server, services, object).await;
        }
    }
    for stored in services.snapshot().iter() {
        let custom = stored.label(AUTOMANAGED) == Some("true");
        if custom && !wanted.iter().any(|(name, _)| **name == *stored.key.name) {
            remove(server, services, stored).await;
        }
    }
}

fn object(
    name: &str,
    group: &str,
    version: &str,
    of_group: i64,
    of_version: i64,
    managed: &str,
) -> Value {
    let mut spec = json!({
        "groupPriorityMinimum": of_group, "version": version, "versionPriority": of_version,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    let now = apimachinery::time::now();
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {
            "name": name, "labels": { AUTOMANAGED: managed }, "creationTimestamp": now,
            "uid": uuid::Uuid::new_v4().to_string(),
        },
        "spec": spec,
        "status": { "conditions": [{
            "type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available", "lastTransitionTime": now,
        }] },
    })
}

async fn write(server: &Shared, services: &Collection, object: &Value) {
    let Ok(draft) = Draft::new(object, services.fields()) else { return };
    if let Err(error) = server.store.commit(services, Write::Create(draft)).await {
        warn!(%error, "api service not registered");
    }
}

async fn remove(server: &Shared, services: &Collection, stored: &Object) {
    let Ok(value) = stored.value() else { return };
    let Ok(last) = Draft::new(&value, services.fields()) else { return };
    let write = Write::Delete { expected: stored.revision, last };
    if let Err(error) = server.store.commit(services, write).await {
        warn!(%error, "api service not removed");
    }
}
