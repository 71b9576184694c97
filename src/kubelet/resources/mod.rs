//! Requests and limits: sums over a pod, its quality of service, and what they mean for cgroups.

pub(crate) mod cgroups;
pub(crate) mod oom;

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use placement::requests::{self as rules, Amounts, is_pod_level};

use crate::podspec::PodExt;

/// Amounts by resource name.
pub(crate) type ResourceList = BTreeMap<String, Quantity>;

/// A pod's quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// An API resource list as numbers. What does not parse was refused by the API server already.
pub(crate) fn amounts(list: Option<&BTreeMap<String, ApiQuantity>>) -> ResourceList {
    Amounts::read(list)
}

/// Numbers as an API resource list.
pub(crate) fn to_api(list: &ResourceList) -> BTreeMap<String, ApiQuantity> {
    list.iter().map(|(name, amount)| (name.clone(), ApiQuantity(amount.to_string()))).collect()
}

/// One amount of a resource list, zero when absent.
pub(crate) fn amount(list: Option<&BTreeMap<String, ApiQuantity>>, name: &str) -> Quantity {
    list.and_then(|list| list.get(name))
        .and_then(|text| Quantity::parse(&text.0).ok())
        .unwrap_or(Quantity::ZERO)
}

/// The requests of a container.
pub(crate) fn requests(resources: Option<&ResourceRequirements>) -> ResourceList {
    amounts(resources.and_then(|r| r.requests.as_ref()))
}

/// The limits of a container.
pub(crate) fn limits(resources: Option<&ResourceRequirements>) -> ResourceList {
    amounts(resources.and_then(|r| r.limits.as_ref()))
}

fn pod_level(resources: Option<&ResourceRequirements>) -> bool {
    resources.is_some_and(|r| {
        [&r.requests, &r.limits]
            .into_iter()
            .flatten()
            .any(|list| list.keys().any(|name| is_pod_level(name)))
    })
}

/// Whether the pod as a whole has requests or limits of its own.
pub(crate) fn has_pod_level(pod: &Pod) -> bool {
    pod_level(pod.spec_or_empty().resources.as_ref())
}

/// What the pod requests of the node.
pub(crate) fn pod_requests(pod: &Pod) -> ResourceList {
    rules::requests(pod.spec_or_empty(), |c| requests(c.resources.as_ref()))
}

/// What the pod may use at most; resources that some container leaves open are sums of the rest.
pub(crate) fn pod_limits(pod: &Pod) -> ResourceList {
    let spec = pod.spec_or_empty();
    let mut total = rules::peak(spec, |c| limits(c.resources.as_ref()));
    let own = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    total.set_all(own, is_pod_level);
    for (name, amount) in amounts(spec.overhead.as_ref()) {
        if let Some(limit) = total.get_mut(&name)
            && !limit.is_zero()
        {
            *limit += amount;
        }
    }
    total
}

/// The quality of service of a pod: what its status says, for it never changes, else computed.
pub(crate) fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => compute_qos(pod),
    }
}

fn compute_qos(pod: &Pod) -> Qos {
    let counted = |list: ResourceList| -> ResourceList {
        list.into_iter()
            .filter(|(name, amount)| (name == "cpu" || name == "memory") && amount.signum() > 0)
            .collect()
    };
    let mut total_requests = ResourceList::new();
    let mut total_limits = ResourceList::new();
    let mut guaranteed = true;
    let mut count = |resources: Option<&ResourceRequirements>| {
        total_requests.add(&counted(requests(resources)));
        let own = counted(limits(resources));
        guaranteed &= own.len() == 2;
        total_limits.add(&own);
    };
    let spec = pod.spec_or_empty();
    if has_pod_level(pod) {
        count(spec.resources.as_ref());
    } else {
        for container in pod.containers().iter().chain(pod.init_containers()) {
            count(container.resources.as_ref());
        }
    }
    if total_requests.is_empty() && total_limits.is_empty() {
        Qos::BestEffort
    } else if guaranteed && total_requests == total_limits {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": value})).unwrap()
    }

    #[test]
    fn quality_of_service() {
        let class = |containers: serde_json::Value| qos(&pod(json!({"containers": containers})));
        assert_eq!(class(json!([{"name": "a"}])), Qos::BestEffort);
        let both = json!({"cpu": "100m", "memory": "10Mi"});
        let equal = json!([{"name": "a", "resources": {"requests": both, "limits": both}}]);
        assert_eq!(class(equal), Qos::Guaranteed);
        let only_cpu =
            json!([{"name": "a", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}]);
        assert_eq!(class(only_cpu), Qos::Burstable);
        let level = pod(json!({
            "containers": [{"name": "a"}],
            "resources": {"requests": both, "limits": both},
        }));
        assert_eq!(qos(&level), Qos::Guaranteed);
    }

    #[test]
    fn sidecars_count_with_init_and_with_regular_containers() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let it = pod(json!({
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": cpu("1")},
                {"name": "init", "resources": cpu("5")},
            ],
            "containers": [{"name": "a", "resources": cpu("2")}],
            "overhead": {"cpu": "250m"},
        }));
        assert_eq!(pod_requests(&it)["cpu"].milli_value(), 6250);
    }
}
