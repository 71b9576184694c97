//! How much a pod needs, worked out of what its containers need.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use crate::is_sidecar;

/// Amounts of resources, however they are kept.
pub trait Amounts: Clone + Default {
    /// Sets the amount of one resource.
    fn set(&mut self, name: &str, amount: Quantity);

    /// Adds `other`.
    fn add(&mut self, other: &Self);

    /// Raises each amount to that of `other`.
    fn raise(&mut self, other: &Self);

    /// Reads a resource list. What does not parse is left out, the API server having refused it.
    fn read(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut amounts = Self::default();
        amounts.set_all(list, |_| true);
        amounts
    }

    /// Sets what a resource list has of the resources that `which` names.
    fn set_all(&mut self, list: Option<&BTreeMap<String, Text>>, which: impl Fn(&str) -> bool) {
        for (name, text) in list.into_iter().flatten().filter(|(name, _)| which(name)) {
            if let Ok(amount) = Quantity::parse(&text.0) {
                self.set(name, amount);
            }
        }
    }
}

impl Amounts for BTreeMap<String, Quantity> {
    fn set(&mut self, name: &str, amount: Quantity) {
        self.insert(name.to_owned(), amount);
    }

    fn add(&mut self, other: &Self) {
        for (name, amount) in other {
            *self.entry(name.clone()).or_insert(Quantity::ZERO) += *amount;
        }
    }

    fn raise(&mut self, other: &Self) {
        for (name, amount) in other {
            let own = self.entry(name.clone()).or_insert(*amount);
            *own = (*own).max(*amount);
        }
    }
}

/// What the pod asks for: what its containers ask for at most, but its own requests instead where
/// it has them (KEP-2837), and the overhead of running it.
pub fn requests<A: Amounts>(spec: &PodSpec, of: impl Fn(&Container) -> A) -> A {
    let mut total = peak(spec, of);
    let own = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    total.set_all(own, is_pod_level);
    total.add(&A::read(spec.overhead.as_ref()));
    total
}

/// The most that the containers need at one time: the regular ones with the sidecars, or an init
/// container with the sidecars started before it (KEP-753).
pub fn peak<A: Amounts>(spec: &PodSpec, of: impl Fn(&Container) -> A) -> A {
    let mut running = A::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut sidecars = A::default();
    let mut starting = A::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if is_sidecar(container) {
            running.add(&own);
            sidecars.add(&own);
            starting.raise(&sidecars);
        } else {
            let mut together = sidecars.clone();
            together.add(&own);
            starting.raise(&together);
        }
    }
    running.raise(&starting);
    running
}

/// Whether a resource may be asked for by the pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        let mut sidecar = container(cpu);
        sidecar["restartPolicy"] = json!("Always");
        sidecar
    }

    fn cpu(spec: Value) -> i64 {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let total: BTreeMap<String, Quantity> = requests(&spec, |container| {
            Amounts::read(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
        });
        total["cpu"].milli_value()
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
        let spec = |init: Value| json!({"containers": [container("100m")], "initContainers": init});
        let after = spec(json!([sidecar("300m"), container("500m")]));
        assert_eq!(cpu(after), 800, "the init container with the sidecar before it");
        let before = spec(json!([container("500m"), sidecar("300m")]));
        assert_eq!(cpu(before), 500, "the init container alone");
        assert_eq!(cpu(spec(json!([sidecar("300m")]))), 400);
    }

    #[test]
    fn requests_of_the_pod_take_precedence_and_overhead_comes_on_top() {
        let mut spec =
            json!({"containers": [container("1")], "resources": {"requests": {"cpu": "2"}}});
        assert_eq!(cpu(spec.clone()), 2000);
        spec["overhead"] = json!({"cpu": "250m"});
        assert_eq!(cpu(spec), 2250);
    }

    #[test]
    fn a_pod_as_a_whole_asks_for_cpu_memory_and_huge_pages_only() {
        let own = json!({"requests": {"hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi"}});
        let spec = json!({"containers": [], "resources": own});
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let total: BTreeMap<String, Quantity> = requests(&spec, |_| Default::default());
        assert_eq!(total.keys().collect::<Vec<_>>(), ["hugepages-2Mi"]);
    }
}
