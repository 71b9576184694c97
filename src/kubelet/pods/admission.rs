//! Which pods the node takes. The scheduler has chosen the node already; what is checked here is what
//! it cannot know, or what a pod that was bound by hand got past.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Pod};
use placement::{
    affinity,
    ports::{HostPort, host_ports},
    requests::Amounts,
    taints,
};

use super::mailbox::Mailbox;
use crate::{
    podspec::PodExt,
    resources::{ResourceList, pod_requests},
    security::sysctls,
};

/// A refusal: reason and message of the failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) message: String,
}

fn refusal(reason: &str, message: impl Into<String>) -> Refusal {
    Refusal { reason: reason.to_owned(), message: message.into() }
}

fn predicate(name: &str, why: &str) -> Refusal {
    refusal(name, format!("Predicate {name} failed: {why}"))
}

#[derive(Clone, Debug, Default)]
struct Claim {
    requests: ResourceList,
    host_ports: Vec<HostPort>,
}

/// What the pods that the node took hold of it.
#[derive(Default)]
pub(crate) struct Ledger {
    claims: Mutex<HashMap<String, Claim>>,
    /// Pods that wait for what others may give back.
    waiting: Mutex<HashMap<String, Weak<Mailbox>>>,
}

/// What there is too little of. CPU in thousandths, memory in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) name: String,
    pub(super) want: i64,
    pub(super) held: i64,
    pub(super) have: i64,
}

/// The node as pods are measured by it.
pub(crate) struct Measure<'a> {
    pub(crate) node: Option<&'a Node>,
    pub(crate) allocatable: &'a ResourceList,
    pub(crate) allowed_unsafe_sysctls: &'a [String],
}

impl Ledger {
    /// Takes a pod in, or refuses it.
    pub(crate) fn admit(&self, pod: &Pod, measure: &Measure<'_>) -> Result<(), Refusal> {
        check_alone(pod, measure)?;
        let claim = claim(pod);
        let mut claims = self.lock();
        fits(pod.uid(), &claim, &claims, measure.allocatable)?;
        check_node(pod, &claim, &claims, measure.node)?;
        claims.insert(pod.uid().to_owned(), claim);
        Ok(())
    }

    /// Takes in a pod that was taken before.
    pub(crate) fn insert(&self, pod: &Pod) {
        self.lock().insert(pod.uid().to_owned(), claim(pod));
    }

    /// Frees what a pod held.
    pub(crate) fn remove(&self, uid: &str) {
        if self.lock().remove(uid).is_some() {
            self.wake();
        }
    }

    /// Gives a pod the resources of its present form if they are there, all other pods as they are.
    /// If not, `waiting` is woken when there may be more.
    pub(super) fn resize(
        &self,
        pod: &Pod,
        allocatable: &ResourceList,
        waiting: &Arc<Mailbox>,
    ) -> Result<(), Lack> {
        let claim = claim(pod);
        let mut claims = self.lock();
        let used = used(pod.uid(), &claims);
        for name in ["cpu", "memory"] {
            let (want, held, have) = amounts(name, &claim.requests, &used, allocatable);
            if want > have - held {
                self.waiting().insert(pod.uid().to_owned(), Arc::downgrade(waiting));
                return Err(Lack { name: name.to_owned(), want, held, have });
            }
        }
        claims.insert(pod.uid().to_owned(), claim);
        drop(claims);
        self.wake();
        Ok(())
    }

    /// What is free may be more than it was.
    fn wake(&self) {
        for mailbox in self.waiting().drain().filter_map(|(_, mailbox)| mailbox.upgrade()) {
            mailbox.wake();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Mailbox>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn claim(pod: &Pod) -> Claim {
    Claim { requests: pod_requests(pod), host_ports: host_ports(pod.spec_or_empty()) }
}

fn used(without: &str, claims: &HashMap<String, Claim>) -> ResourceList {
    let mut used = ResourceList::new();
    for (_, claim) in claims.iter().filter(|(uid, _)| *uid != without) {
        used.add(&claim.requests);
    }
    used
}

/// Wanted, used and present amount of a resource: CPU in thousandths, the rest in whole units.
fn amounts(
    name: &str,
    wanted: &ResourceList,
    used: &ResourceList,
    allocatable: &ResourceList,
) -> (i64, i64, i64) {
    let of = |list: &ResourceList| {
        let amount = list.get(name).copied().unwrap_or(Quantity::ZERO);
        if name == "cpu" { amount.milli_value() } else { amount.value() }
    };
    (of(wanted), of(used), of(allocatable))
}

fn fits(
    uid: &str,
    claim: &Claim,
    claims: &HashMap<String, Claim>,
    allocatable: &ResourceList,
) -> Result<(), Refusal> {
    let short = |name: &str, want: i64, used: i64, have: i64| {
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {want}, used: {used}, capacity: \
             {have}"
        );
        refusal(&format!("OutOf{name}"), message)
    };
    let pods = i64::try_from(claims.keys().filter(|other| *other != uid).count()).unwrap_or(0);
    let most = allocatable.get("pods").map_or(i64::MAX, Quantity::value);
    if pods + 1 > most {
        return Err(short("pods", 1, pods, most));
    }
    let used = used(uid, claims);
    for name in claim.requests.keys() {
        // Resources that the node does not have at all are the cluster's business.
        let native = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || name.starts_with("hugepages-");
        if !native && !allocatable.contains_key(name) {
            continue;
        }
        let (want, used, have) = amounts(name, &claim.requests, &used, allocatable);
        if want > 0 && want > have - used {
            return Err(short(name, want, used, have));
        }
    }
    Ok(())
}

fn check_alone(pod: &Pod, measure: &Measure<'_>) -> Result<(), Refusal> {
    let spec = pod.spec_or_empty();
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != "linux") {
        return Err(refusal(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(refusal("PodOSNotSupported", message));
    }
    if let Some(message) = sysctls::refusal(pod, measure.allowed_unsafe_sysctls) {
        return Err(refusal("SysctlForbidden", message));
    }
    if spec.host_users == Some(false) {
        return Err(refusal(
            "UserNamespacesNotSupported",
            "user namespaces are not supported by the container runtime of this node",
        ));
    }
    Ok(())
}

fn check_node(
    pod: &Pod,
    claim: &Claim,
    claims: &HashMap<String, Claim>,
    node: Option<&Node>,
) -> Result<(), Refusal> {
    let Some(node) = node else { return Ok(()) };
    if !affinity::admits(pod.spec_or_empty(), node) {
        return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let node_name = node.metadata.name.as_deref().unwrap_or_default();
    if pod.spec_or_empty().node_name.as_deref().is_some_and(|name| name != node_name) {
        return Err(predicate("NodeName", "node(s) didn't match the requested node name"));
    }
    let taken =
        claims.iter().filter(|(uid, _)| *uid != pod.uid()).flat_map(|(_, claim)| &claim.host_ports);
    if taken.into_iter().any(|port| claim.host_ports.iter().any(|own| own.conflicts(port))) {
        return Err(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = pod.spec_or_empty().tolerations.as_deref().unwrap_or_default();
    let untolerated = taints::untolerated(taints, tolerations, &["NoExecute"]);
    if untolerated.is_some() && !pod.is_static() {
        return Err(predicate("TaintToleration", "node(s) had untolerated taint(s)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str, spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": uid, "name": uid}, "spec": spec}))
            .unwrap()
    }

    fn cpu(amount: &str) -> Value {
        json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": amount}}}]})
    }

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "one", "labels": {"disk": "ssd", "n": "5"}},
            "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}}))
        .unwrap()
    }

    #[test]
    fn resources_add_up() {
        let allocatable = ResourceList::from([
            ("cpu".to_owned(), Quantity::from_milli(1000)),
            ("pods".to_owned(), Quantity::from_milli(3000)),
        ]);
        let measure =
            Measure { node: None, allocatable: &allocatable, allowed_unsafe_sysctls: &[] };
        let ledger = Ledger::default();
        assert_eq!(ledger.admit(&pod("a", cpu("600m")), &measure), Ok(()));
        let refused = ledger.admit(&pod("b", cpu("500m")), &measure).unwrap_err();
        assert_eq!(refused.reason, "OutOfcpu");
        assert_eq!(
            refused.message,
            "Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000"
        );
        ledger.remove("a");
        assert_eq!(ledger.admit(&pod("b", cpu("500m")), &measure), Ok(()));
        let waiting = Arc::new(Mailbox::default());
        assert!(ledger.resize(&pod("b", cpu("1")), &allocatable, &waiting).is_ok());
        assert!(ledger.resize(&pod("b", cpu("2")), &allocatable, &waiting).is_err());
    }

    #[test]
    fn the_node_has_to_match() {
        let node = node();
        let allocatable = ResourceList::new();
        let measure =
            Measure { node: Some(&node), allocatable: &allocatable, allowed_unsafe_sysctls: &[] };
        let tolerations = json!([{"key": "k", "operator": "Exists"}]);
        let reason = |mut spec: Value| {
            spec["containers"] = json!([]);
            Ledger::default().admit(&pod("a", spec), &measure).err().map(|refusal| refusal.reason)
        };
        assert_eq!(reason(json!({})).as_deref(), Some("TaintToleration"));
        assert_eq!(reason(json!({"tolerations": tolerations})), None);
        assert_eq!(
            reason(json!({"tolerations": tolerations, "nodeSelector": {"disk": "hdd"}})).as_deref(),
            Some("NodeAffinity")
        );
        let affinity = |operator: &str, value: &str| {
            json!({"tolerations": tolerations, "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "n", "operator": operator, "values": [value]}]}]}}}})
        };
        assert_eq!(reason(affinity("Gt", "4")), None);
        assert_eq!(reason(affinity("Lt", "4")).as_deref(), Some("NodeAffinity"));
        assert_eq!(reason(affinity("NotIn", "5")).as_deref(), Some("NodeAffinity"));
    }
}
