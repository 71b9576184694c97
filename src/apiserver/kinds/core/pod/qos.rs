//! The quality-of-service class, which decides who is evicted first.

use apimachinery::quantity::Quantity;
use serde_json::Value;

use crate::kinds::{resource_names::is_huge_page, validation::quantity, value::Fields as _};

/// The class of a pod spec: `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(spec: &Value) -> &'static str {
    if let Some(resources) = spec.sub("resources") {
        let known = |list: &str| {
            resources
                .entries(list)
                .any(|(name, _)| matches!(name.as_str(), "cpu" | "memory") || is_huge_page(name))
        };
        if known("requests") || known("limits") {
            return of(resources);
        }
    }
    let mut all = spec
        .list("initContainers")
        .iter()
        .chain(spec.list("containers"))
        .map(|container| of(&container["resources"]));
    let Some(first) = all.next() else { return "BestEffort" };
    if all.all(|class| class == first) { first } else { "Burstable" }
}

fn of(resources: &Value) -> &'static str {
    let one = |name: &str| {
        let amount = |list: &str| resources[list].sub(name).map_or(Quantity::ZERO, quantity);
        match (amount("requests"), amount("limits")) {
            (request, limit) if request != limit => "Burstable",
            (request, _) if request.is_zero() => "BestEffort",
            _ => "Guaranteed",
        }
    };
    match (one("cpu"), one("memory")) {
        (cpu, memory) if cpu == memory => cpu,
        _ => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_are_upstreams() {
        let pod = |containers: Value| class(&json!({ "containers": containers }));
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1024Mi"}});
        assert_eq!(pod(json!([{}])), "BestEffort");
        assert_eq!(pod(json!([{ "resources": full }])), "Guaranteed");
        assert_eq!(pod(json!([{ "resources": full }, {}])), "Burstable");
        assert_eq!(pod(json!([{"resources": {"requests": {"cpu": "1"}}}])), "Burstable");
        assert_eq!(pod(json!([{"resources": {"limits": {"acme.com/gpu": "1"}}}])), "BestEffort");
        let own = json!({"containers": [{}], "resources": full});
        assert_eq!(class(&own), "Guaranteed");
    }
}
