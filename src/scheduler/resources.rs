//! Amounts of resources as the scheduler counts them: CPU in thousandths, the rest in units.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use placement::requests::{Amounts, requests};

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

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }
}

impl Amounts for Resources {
    fn set(&mut self, name: &str, amount: Quantity) {
        *self.slot(name) = match name {
            "cpu" => amount.milli_value(),
            _ => amount.value(),
        };
    }

    fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    fn raise(&mut self, other: &Self) {
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
    /// What `spec` asks for.
    pub fn of(spec: &PodSpec) -> Self {
        let stated = requests(spec, requests_of);
        let ranked = requests(spec, |container| {
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
    Resources::read(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_without_requests_still_counts_when_nodes_are_ranked() {
        let spec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).unwrap();
        let requests = Requests::of(&spec);
        assert_eq!(requests.stated, Resources::default());
        assert_eq!((requests.ranked.cpu, requests.ranked.memory), (100, 200 << 20));
    }

    #[test]
    fn amounts_are_kept_in_thousandths_of_a_core_and_in_units() {
        let list = json!({"cpu": "1500m", "memory": "1Ki", "example.com/thing": "2"});
        let resources = Resources::read(Some(&serde_json::from_value(list).unwrap()));
        assert_eq!((resources.cpu, resources.memory), (1500, 1024));
        assert_eq!(resources.extended["example.com/thing"], 2);
    }
}
