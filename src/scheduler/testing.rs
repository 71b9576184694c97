//! Nodes and pods for the tests beside the code.

use std::sync::Arc;

use apimachinery::{Draft, Object};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::{cache::Cache, framework::Plugins, pod::PodInfo, schedule::choose};

pub(crate) fn object(value: &Value) -> Arc<Object> {
    Draft::new(value, &[] as &[&str]).unwrap().seal(1)
}

/// A node of this name with this much CPU.
pub(crate) fn node(name: &str, cpu: &str) -> Node {
    let allocatable = json!({"cpu": cpu, "memory": "4Gi", "pods": "110"});
    let node = json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}});
    serde_json::from_value(node).unwrap()
}

/// A pod. What it cannot do without may be left out; its UID is its name then.
pub(crate) fn pod(mut pod: Value) -> PodInfo {
    if pod["metadata"]["uid"].is_null() {
        pod["metadata"]["uid"] = pod["metadata"]["name"].clone();
    }
    if pod["metadata"]["namespace"].is_null() {
        pod["metadata"]["namespace"] = json!("default");
    }
    if pod["spec"]["containers"].is_null() {
        pod["spec"]["containers"] = json!([]);
    }
    PodInfo::read(&object(&pod)).unwrap()
}

/// A pod of this name that asks for this much CPU.
pub(crate) fn asking(name: &str, cpu: &str) -> PodInfo {
    urgent(name, cpu, 0)
}

/// The same with a priority.
pub(crate) fn urgent(name: &str, cpu: &str, priority: i32) -> PodInfo {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    pod(json!({"metadata": {"name": name},
        "spec": {"containers": [container], "priority": priority}}))
}

/// Nodes with this much CPU each.
pub(crate) fn cluster(nodes: &[(&str, &str)]) -> Cache {
    let cache = Cache::default();
    for (name, cpu) in nodes {
        cache.put_node(node(name, cpu));
    }
    cache
}

/// The node that the default plugins choose, or what they say.
pub(crate) fn chosen(cache: &Cache, pod: &PodInfo) -> Result<String, String> {
    choose(&Plugins::default(), pod, &cache.nodes(), &Vec::new).map_err(|failure| failure.message)
}
