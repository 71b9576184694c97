//! What one object uses, and which of a quota's resources its kind can use.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::{GroupResource, quantity::Quantity, time};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    amounts::{self, Amounts},
    pod::{self, View},
};

const POD: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// A quota of these demands that every container says what it needs: the one mistake that upstream
/// keeps.
const DEMANDED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

const CLASS: &str = ".storageclass.storage.k8s.io/";

fn one() -> Quantity {
    Quantity::from_scaled(1, 0)
}

/// The name under which a quota counts the objects of a resource.
pub fn count_name(resource: &GroupResource) -> String {
    match &*resource.group {
        "" => format!("count/{}", resource.resource),
        group => format!("count/{}.{group}", resource.resource),
    }
}

/// The older name for the count of some kinds.
fn alias(resource: &GroupResource) -> Option<&str> {
    let name = &*resource.resource;
    let known =
        matches!(name, "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets");
    (resource.group.is_empty() && known).then_some(name)
}

/// Which of the named resources objects of this kind use.
pub fn matching<'a>(
    resource: &GroupResource,
    names: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<&'a str> {
    let count = count_name(resource);
    let known = |name: &str| match (&*resource.group, &*resource.resource) {
        ("", "pods") => {
            POD.contains(&name)
                || name.starts_with("hugepages-")
                || name.starts_with("requests.hugepages-")
                || is_extended(name)
        }
        ("", "services") => {
            matches!(name, "services" | "services.nodeports" | "services.loadbalancers")
        }
        ("", "persistentvolumeclaims") => {
            let of_class = name.split_once(CLASS).map_or(name, |(_, name)| name);
            matches!(of_class, "persistentvolumeclaims" | "requests.storage")
        }
        _ => alias(resource) == Some(name),
    };
    names.into_iter().filter(|name| **name == *count || known(name)).collect()
}

/// `requests.` and the name of a device or another resource that is not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    let Some(inner) = name.strip_prefix("requests.") else { return false };
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native || inner.starts_with("deviceclass.resource.kubernetes.io/")
}

/// What the object uses.
pub fn usage(resource: &GroupResource, object: &Value) -> Amounts {
    let mut used = Amounts::from([(count_name(resource), one())]);
    match (&*resource.group, &*resource.resource) {
        ("", "pods") if lives(object) => {
            let requests = pod::requests(object, View::Status);
            let limits = pod::limits(object, View::Status);
            amounts::add(&mut used, &computed(&requests, &limits));
        }
        ("", "pods") => {}
        ("", "services") => service(object, &mut used),
        ("", "persistentvolumeclaims") => claim(object, &mut used),
        _ => {
            if let Some(alias) = alias(resource) {
                used.insert(alias.to_owned(), one());
            }
        }
    }
    used
}

/// Whether a pod still counts: it has not ended, and is not stuck on its way out.
fn lives(pod: &Value) -> bool {
    if pod["status"]["phase"] == "Failed" || pod["status"]["phase"] == "Succeeded" {
        return false;
    }
    let metadata = &pod["metadata"];
    let deleted = metadata["deletionTimestamp"].as_str().and_then(|t| time::parse_seconds(t).ok());
    let (Some(at), Some(grace)) = (deleted, metadata["deletionGracePeriodSeconds"].as_i64()) else {
        return true;
    };
    at.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| Timestamp::now() <= end)
}

fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), one())]);
    for (name, amount) in requests {
        let known = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if known || name.starts_with("hugepages-") {
            used.insert(name.clone(), *amount);
        }
        let request = format!("requests.{name}");
        if known || name.starts_with("hugepages-") || is_extended(&request) {
            used.insert(request, *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

fn service(service: &Value, used: &mut Amounts) {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |n: usize| Quantity::from_scaled(i64::try_from(n).unwrap_or(i64::MAX), 0);
    let balanced = spec["type"] == "LoadBalancer";
    let node_ports = match spec["type"].as_str() {
        Some("NodePort") => ports.len(),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count()
        }
        Some("LoadBalancer") => ports.len(),
        _ => 0,
    };
    used.insert("services".to_owned(), one());
    used.insert("services.nodeports".to_owned(), count(node_ports));
    used.insert("services.loadbalancers".to_owned(), count(usize::from(balanced)));
}

fn claim(claim: &Value, used: &mut Amounts) {
    let old = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = old.as_str().or_else(|| claim["spec"]["storageClassName"].as_str());
    let class = class.filter(|class| !class.is_empty());
    let mut charge = |name: &str, amount: Quantity| {
        if let Some(class) = class {
            used.insert(format!("{class}{CLASS}{name}"), amount);
        }
        used.insert(name.to_owned(), amount);
    };
    charge("persistentvolumeclaims", one());
    let amount = |list: &Value| Quantity::from_json(&list["storage"]).ok();
    if let Some(asked) = amount(&claim["spec"]["resources"]["requests"]) {
        let allocated = amount(&claim["status"]["allocatedResources"]).unwrap_or(asked);
        // Whole bytes: a quota's status may not hold parts of one.
        charge("requests.storage", asked.max(allocated).rounded_to(0));
    }
}

/// Checks that a pod says what a quota of `required` demands that it says.
///
/// # Errors
/// What is missing where.
pub fn constraints(
    resource: &GroupResource,
    required: &BTreeSet<&str>,
    object: &Value,
) -> Result<(), String> {
    let is_pod = (&*resource.group, &*resource.resource) == ("", "pods");
    if !is_pod || pod::has_own_resources(object) {
        return Ok(());
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let lists = ["containers", "initContainers"].iter();
    for container in lists.filter_map(|list| object["spec"][*list].as_array()).flatten() {
        let list = |name: &str| amounts::read(&container["resources"][name]);
        let said = computed(&list("requests"), &list("limits"));
        for name in DEMANDED.iter().filter(|name| required.contains(*name)) {
            if !said.contains_key(*name) {
                let container = container["name"].as_str().unwrap_or_default();
                missing.entry(name).or_default().insert(container);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
        })
        .collect();
    Err(format!("must specify {}", texts.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn used(group: &str, resource: &str, object: &Value) -> String {
        amounts::text(&usage(&GroupResource::new(group, resource), object))
    }

    #[test]
    fn pods_count_until_they_have_ended() {
        let mut pod = json!({"spec": {"containers": [{"resources": {
            "requests": {"cpu": "1", "acme.com/gpu": "2", "hugepages-2Mi": "4Mi"},
            "limits": {"cpu": "2", "acme.com/gpu": "2"},
        }}]}});
        assert_eq!(
            used("", "pods", &pod),
            "count/pods=1,cpu=1,hugepages-2Mi=4Mi,limits.cpu=2,pods=1,requests.acme.com/gpu=2,\
             requests.cpu=1,requests.hugepages-2Mi=4Mi"
        );
        pod["status"]["phase"] = json!("Succeeded");
        assert_eq!(used("", "pods", &pod), "count/pods=1");
        pod["status"]["phase"] = json!("Running");
        pod["metadata"] = json!({"deletionTimestamp": "2020-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 30});
        assert_eq!(used("", "pods", &pod), "count/pods=1");
    }

    #[test]
    fn services_and_claims_count_what_they_take() {
        let service = json!({"spec": {"type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 1}, {}]}});
        assert_eq!(
            used("", "services", &service),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1"
        );
        let claim = json!({"spec": {"storageClassName": "gold",
            "resources": {"requests": {"storage": "1500m"}}}});
        assert_eq!(
            used("", "persistentvolumeclaims", &claim),
            "count/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=2,\
             persistentvolumeclaims=1,requests.storage=2"
        );
        assert_eq!(used("", "secrets", &json!({})), "count/secrets=1,secrets=1");
        assert_eq!(used("apps", "deployments", &json!({})), "count/deployments.apps=1");
    }

    #[test]
    fn kinds_match_the_resources_they_use() {
        let names = ["cpu", "requests.acme.com/gpu", "count/pods", "services", "requests.storage"];
        let of = |resource: &str| -> Vec<&str> {
            matching(&GroupResource::new("", resource), names).into_iter().collect()
        };
        assert_eq!(of("pods"), ["count/pods", "cpu", "requests.acme.com/gpu"]);
        assert_eq!(of("services"), ["services"]);
        assert_eq!(of("persistentvolumeclaims"), ["requests.storage"]);
        assert!(of("secrets").is_empty());
    }

    #[test]
    fn a_quota_of_compute_demands_requests() {
        let pods = GroupResource::new("", "pods");
        let pod = json!({"spec": {"containers": [
            {"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}]}});
        let required = BTreeSet::from(["cpu", "limits.memory", "pods", "ephemeral-storage"]);
        assert_eq!(
            constraints(&pods, &required, &pod),
            Err("must specify cpu for: b; limits.memory for: a,b".to_owned())
        );
        assert_eq!(constraints(&pods, &BTreeSet::from(["pods"]), &pod), Ok(()));
    }
}
