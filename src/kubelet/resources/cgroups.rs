//! Requests and limits as settings of cgroups, by the rules of the kubelet: CPU requests are
//! shares, CPU limits quotas of a period of 100 ms, memory limits are limits.

use apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{PodResources, Resources};

use super::{Qos, amount, has_pod_level, limits, pod_limits, pod_requests, qos};
use crate::podspec::PodExt;

/// The kernel's least CPU shares.
const MIN_SHARES: i64 = 2;
/// The kernel's most CPU shares.
const MAX_SHARES: i64 = 262_144;
/// Length of a CPU period in microseconds.
const PERIOD: i64 = 100_000;
/// The kernel's least CPU quota in microseconds.
const MIN_QUOTA: i64 = 1000;

/// CPU shares of a request in thousandths of a CPU.
pub(crate) fn shares(milli_cpu: i64) -> u64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES).unsigned_abs()
}

/// The request in thousandths of a CPU that shares stand for; `None` for the least shares, which
/// stand for no request.
pub(crate) fn milli_cpu(shares: u64) -> Option<i64> {
    let milli = shares.saturating_mul(1000).div_ceil(1024);
    i64::try_from(milli).ok().filter(|milli| *milli > MIN_SHARES)
}

/// CPU quota per period of a limit in thousandths of a CPU; `None` without a limit.
pub(crate) fn quota(milli_cpu: i64) -> Option<i64> {
    (milli_cpu > 0).then(|| (milli_cpu.saturating_mul(PERIOD) / 1000).max(MIN_QUOTA))
}

/// The path of a pod's cgroup below the cgroup root.
pub(crate) fn pod_path(pod: &Pod) -> String {
    let uid = pod.uid();
    match qos(pod) {
        Qos::Guaranteed => format!("/kubepods/pod{uid}"),
        Qos::Burstable => format!("/kubepods/burstable/pod{uid}"),
        Qos::BestEffort => format!("/kubepods/besteffort/pod{uid}"),
    }
}

/// Settings of the cgroup of a pod.
pub(crate) fn pod_resources(pod: &Pod, pids_limit: i64) -> PodResources {
    let requests = pod_requests(pod);
    let all_limits = pod_limits(pod);
    let declared = |name: &str| {
        let containers = pod.containers().iter().chain(pod.init_containers());
        let each = containers
            .map(|c| amount(c.resources.as_ref().and_then(|r| r.limits.as_ref()), name))
            .all(|limit| !limit.is_zero());
        let level = pod.spec_or_empty().resources.as_ref();
        each || (has_pod_level(pod) && limits(level).get(name).is_some_and(|l| !l.is_zero()))
    };
    let milli = |list: &super::ResourceList| list.get("cpu").map_or(0, Quantity::milli_value);
    let class = qos(pod);
    let mut resources = PodResources::default();
    if pids_limit > 0 {
        resources.pids_limit = Some(pids_limit);
    }
    if class == Qos::BestEffort {
        resources.cpu_shares = Some(MIN_SHARES.unsigned_abs());
        return resources;
    }
    resources.cpu_shares = Some(shares(milli(&requests)));
    if class == Qos::Guaranteed || declared("cpu") {
        resources.cpu_quota = quota(milli(&all_limits));
        resources.cpu_period = resources.cpu_quota.map(|_| PERIOD.unsigned_abs());
    }
    if class == Qos::Guaranteed || declared("memory") {
        resources.memory_limit =
            all_limits.get("memory").map(Quantity::value).filter(|limit| *limit > 0);
    }
    for (name, limit) in &requests {
        if let Some(size) = name.strip_prefix("hugepages-").and_then(page_size) {
            resources.hugepages.insert(size, limit.value().unsigned_abs());
        }
    }
    resources
}

/// Settings of the cgroup of a container. Where the container sets no limit, the pod's applies.
pub(crate) fn container_resources(pod: &Pod, container: &Container) -> Resources {
    let own = container.resources.as_ref();
    let level = pod.spec_or_empty().resources.as_ref().filter(|_| has_pod_level(pod));
    let limit = |name: &str| {
        let limit = amount(own.and_then(|r| r.limits.as_ref()), name);
        if limit.is_zero() { amount(level.and_then(|r| r.limits.as_ref()), name) } else { limit }
    };
    let cpu_limit = limit("cpu").milli_value();
    let cpu_request = match own.and_then(|r| r.requests.as_ref()) {
        Some(requests) if requests.contains_key("cpu") => {
            amount(Some(requests), "cpu").milli_value()
        }
        _ => cpu_limit,
    };
    let mut resources = Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota: quota(cpu_limit),
        cpu_period: quota(cpu_limit).map(|_| PERIOD.unsigned_abs()),
        memory_limit: Some(limit("memory").value()).filter(|limit| *limit > 0),
        ..Resources::default()
    };
    // No swap beyond the memory limit, as upstream's default NoSwap.
    resources.memory_swap_limit = resources.memory_limit;
    for list in [level, own].into_iter().flatten() {
        for (name, limit) in limits(Some(list)) {
            if let Some(size) = name.strip_prefix("hugepages-").and_then(page_size) {
                resources.hugepages.insert(size, limit.value().unsigned_abs());
            }
        }
    }
    resources
}

/// `2Mi` as the kernel's hugetlb controller names it: `2MB`.
fn page_size(quantity: &str) -> Option<String> {
    let bytes = Quantity::parse(quantity).ok()?.value();
    [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes % unit == 0)
        .map(|(unit, suffix)| format!("{}{suffix}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conversions() {
        assert_eq!(
            (shares(0), shares(100), shares(1000), shares(1 << 40)),
            (2, 102, 1024, 262_144)
        );
        assert_eq!((quota(0), quota(5), quota(1500)), (None, Some(1000), Some(150_000)));
        assert_eq!(page_size("2Mi").as_deref(), Some("2MB"));
    }

    #[test]
    fn a_pod_is_limited_only_where_all_containers_are() {
        let pod = |second: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
                {"name": "a", "resources": {"limits": {"cpu": "1", "memory": "64Mi"},
                                            "requests": {"cpu": "500m", "memory": "32Mi"}}},
                {"name": "b", "resources": second},
            ]}}))
            .unwrap()
        };
        let half = pod_resources(&pod(json!({"limits": {"memory": "64Mi"}})), -1);
        assert_eq!(half.memory_limit, Some(128 << 20));
        assert_eq!(half.cpu_quota, None);
        assert_eq!(half.cpu_shares, Some(512));
        assert_eq!(pod_path(&pod(json!({}))), "/kubepods/burstable/podu");
    }
}
