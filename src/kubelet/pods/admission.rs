//! Which pods the node takes. The scheduler has chosen the node already; what is checked here is what
//! it cannot know, or what a pod that was bound by hand got past.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

use super::mailbox::Mailbox;
use crate::{
    podspec::{PodExt, is_sidecar},
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
    host_ports: Vec<(String, i32, String)>,
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
    let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
    let host_ports = pod
        .containers()
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty());
            Some((protocol, host_port, ip.unwrap_or_else(|| "0.0.0.0".to_owned())))
        })
        .collect();
    Claim { requests: pod_requests(pod), host_ports }
}

fn used(without: &str, claims: &HashMap<String, Claim>) -> ResourceList {
    let mut used = ResourceList::new();
    for (_, claim) in claims.iter().filter(|(uid, _)| *uid != without) {
        for (name, amount) in &claim.requests {
            *used.entry(name.clone()).or_insert(Quantity::ZERO) += *amount;
        }
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
    if !matches_affinity(pod, node) {
        return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let node_name = node.metadata.name.as_deref().unwrap_or_default();
    if pod.spec_or_empty().node_name.as_deref().is_some_and(|name| name != node_name) {
        return Err(predicate("NodeName", "node(s) didn't match the requested node name"));
    }
    let taken =
        claims.iter().filter(|(uid, _)| *uid != pod.uid()).flat_map(|(_, claim)| &claim.host_ports);
    let overlaps = |a: &(String, i32, String), b: &(String, i32, String)| {
        a.0 == b.0 && a.1 == b.1 && (a.2 == b.2 || a.2 == "0.0.0.0" || b.2 == "0.0.0.0")
    };
    if taken.into_iter().any(|port| claim.host_ports.iter().any(|own| overlaps(own, port))) {
        return Err(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = pod.spec_or_empty().tolerations.as_deref().unwrap_or_default();
    let untolerated = taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    if untolerated && !pod.is_static() {
        return Err(predicate("TaintToleration", "node(s) had untolerated taint(s)"));
    }
    Ok(())
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    let value = toleration.value.as_deref().unwrap_or_default();
    let own = taint.value.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    (empty(&toleration.effect) || toleration.effect.as_deref() == Some(&taint.effect))
        && (empty(&toleration.key) || toleration.key.as_deref() == Some(&taint.key))
        && match toleration.operator.as_deref().unwrap_or("Equal") {
            "" | "Equal" => value == own,
            "Exists" => true,
            "Lt" => number(own).zip(number(value)).is_some_and(|(own, value)| own < value),
            "Gt" => number(own).zip(number(value)).is_some_and(|(own, value)| own > value),
            _ => false,
        }
}

/// Whether the node has the labels that the pod selects and is among those that its required affinity
/// names.
fn matches_affinity(pod: &Pod, node: &Node) -> bool {
    let spec = pod.spec_or_empty();
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key).is_some_and(|own| own == value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.clone().unwrap_or_default();
    let fields = BTreeMap::from([("metadata.name".to_owned(), name)]);
    selected
        && required.is_none_or(|selector| {
            selector.node_selector_terms.iter().any(|term| matches_term(term, labels, &fields))
        })
}

fn matches_term(
    term: &NodeSelectorTerm,
    labels: &BTreeMap<String, String>,
    fields: &BTreeMap<String, String>,
) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let on_fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements selects nothing.
    !(expressions.is_empty() && on_fields.is_empty())
        && expressions.iter().all(|requirement| meets(requirement, labels))
        && on_fields.iter().all(|requirement| meets(requirement, fields))
}

fn meets(requirement: &NodeSelectorRequirement, values: &BTreeMap<String, String>) -> bool {
    let own = values.get(&requirement.key);
    let wanted = requirement.values.as_deref().unwrap_or_default();
    let compared = |compare: fn(&i64, &i64) -> bool| {
        let own = own.and_then(|own| own.parse::<i64>().ok());
        let wanted = wanted.first().and_then(|wanted| wanted.parse::<i64>().ok());
        own.zip(wanted).is_some_and(|(own, wanted)| compare(&own, &wanted))
    };
    match requirement.operator.as_str() {
        "In" => own.is_some_and(|own| wanted.contains(own)),
        "NotIn" => own.is_none_or(|own| !wanted.contains(own)),
        "Exists" => own.is_some(),
        "DoesNotExist" => own.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
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
