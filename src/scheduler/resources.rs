//! Amounts of resources as the scheduler counts them: CPU in thousandths, the rest in units.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity as Text,
};

/// CPU that a container without a request counts as when nodes are ranked, in thousandths.
const UNSTATED_CPU: i64 = 100;
/// Memory that a container without a request counts as when nodes are ranked, in bytes.
const UNSTATED_MEMORY: i64 = 200 << 20;

/// An amount of every resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local storage in bytes.
    pub ephemeral_storage: i64,
    /// Pods, set on nodes only.
    pub pods: i64,
    /// Extended resources and huge pages by name, in units.
    pub extended: BTreeMap<Box<str>, i64>,
}

impl Resources {
    /// Reads a resource list; what does not parse counts as zero, the API having validated it.
    pub fn from_list(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut resources = Self::default();
        for (name, text) in list.into_iter().flatten() {
            if let Ok(quantity) = Quantity::parse(&text.0) {
                *resources.slot(name) = match name.as_str() {
                    "cpu" => quantity.milli_value(),
                    _ => quantity.value(),
                };
            }
        }
        resources
    }

    fn slot(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral_storage,
            "pods" => &mut self.pods,
            other => self.extended.entry(other.into()).or_default(),
        }
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = with(self.pods, other.pods);
        for (name, amount) in &other.extended {
            let slot = self.extended.entry(name.clone()).or_default();
            *slot = with(*slot, *amount);
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// Raises each amount to that of `other`.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }
}

/// What a pod asks for, once as stated and once with a floor for containers that state nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// As stated: what has to fit.
    pub stated: Resources,
    /// With a floor of 100m CPU and 200 Mi memory a container: what nodes are ranked by, so that
    /// pods without requests spread out too.
    pub ranked: Resources,
}

impl Requests {
    /// What `spec` asks for: its containers and sidecars together, or the largest init container
    /// with the sidecars started before it if that is more (KEP-753); the pod's own requests
    /// (KEP-2837) take precedence; overhead comes on top.
    pub fn of(spec: &PodSpec) -> Self {
        let stated = total(spec, requests_of);
        let ranked = total(spec, |container| {
            let stated = requests_of(container);
            let has = |name| {
                let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
                requests.is_some_and(|list| list.contains_key(name))
            };
            Resources {
                cpu: if has("cpu") { stated.cpu } else { UNSTATED_CPU },
                memory: if has("memory") { stated.memory } else { UNSTATED_MEMORY },
                ..stated
            }
        });
        Self { stated, ranked }
    }
}

fn requests_of(container: &Container) -> Resources {
    Resources::from_list(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

fn total(spec: &PodSpec, requests: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let asked = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&asked);
            sidecars.add(&asked);
            starting.raise_to(&sidecars);
        } else {
            let mut now = sidecars.clone();
            now.add(&asked);
            starting.raise_to(&now);
        }
    }
    running.raise_to(&starting);
    if let Some(list) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let own = Resources::from_list(Some(list));
        if list.contains_key("cpu") {
            running.cpu = own.cpu;
        }
        if list.contains_key("memory") {
            running.memory = own.memory;
        }
    }
    running.add(&Resources::from_list(spec.overhead.as_ref()));
    running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn cpu(spec: serde_json::Value) -> i64 {
        Requests::of(&serde_json::from_value(spec).unwrap()).stated.cpu
    }

    #[test]
    fn containers_add_up_and_a_large_init_container_outweighs_them() {
        let spec = json!({"containers": [container("100m"), container("1")]});
        assert_eq!(cpu(spec), 1100);
        let spec = json!({"containers": [container("100m")], "initContainers": [container("2")]});
        assert_eq!(cpu(spec), 2000);
    }

    #[test]
    fn sidecars_run_beside_later_init_containers_and_the_containers() {
        let mut sidecar = container("300m");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({
            "containers": [container("100m")],
            "initContainers": [sidecar, container("500m")],
        });
        assert_eq!(cpu(spec), 800, "the init container with the sidecar before it");
    }

    #[test]
    fn a_pod_without_requests_still_counts_when_nodes_are_ranked() {
        let spec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).unwrap();
        let requests = Requests::of(&spec);
        assert_eq!(requests.stated, Resources::default());
        assert_eq!((requests.ranked.cpu, requests.ranked.memory), (100, 200 << 20));
    }

    #[test]
    fn requests_of_the_pod_take_precedence() {
        let spec = json!({"containers": [container("1")], "resources": {"requests": {"cpu": "2"}}});
        assert_eq!(cpu(spec), 2000);
    }
}
