//! Which nodes a DaemonSet's pods belong on.

use std::collections::BTreeMap;

use apimachinery::Object;
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
    Taint, Toleration,
};
use placement::{
    affinity::{self, NodeView},
    taints,
};
use serde::Deserialize;
use tracing::warn;

/// The field by which a pod asks for one node.
const NAME_FIELD: &str = "metadata.name";
/// Taints that no daemon minds: it is there to serve its node in any condition.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// The same for daemons on the node's own network: they may be what brings the network up.
const NETWORK_UNAVAILABLE: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What placement looks at in a node.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct NodeFacts {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Metadata {
    name: Box<str>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Vec<Taint>,
}

impl NodeFacts {
    /// Reads the facts; a node that does not parse is logged and left out.
    pub(crate) fn read(node: &Object) -> Option<Self> {
        node.parse()
            .inspect_err(|error| warn!(node = %node.key, %error, "node does not parse"))
            .ok()
    }

    pub(crate) fn name(&self) -> &str {
        &self.metadata.name
    }
}

impl<'a> From<&'a NodeFacts> for NodeView<'a> {
    fn from(node: &'a NodeFacts) -> Self {
        Self { name: node.name(), labels: &node.metadata.labels }
    }
}

/// What a DaemonSet wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A pod belongs there.
    Run,
    /// None is started there, but one that runs may stay.
    Stay,
    /// None belongs there.
    Leave,
}

/// The template's demands on nodes.
pub(super) struct Placement {
    node: Option<String>,
    selector: BTreeMap<String, String>,
    required: Option<NodeSelector>,
    tolerations: Vec<Toleration>,
}

impl Placement {
    pub(super) fn of(template: &PodSpec) -> Self {
        let affinity = template.affinity.as_ref();
        let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
        Self {
            node: template.node_name.clone().filter(|name| !name.is_empty()),
            selector: template.node_selector.clone().unwrap_or_default(),
            required: affinity
                .and_then(|a| a.required_during_scheduling_ignored_during_execution.clone()),
            tolerations: tolerations(template),
        }
    }

    pub(super) fn verdict(&self, node: &NodeFacts) -> Verdict {
        let named = self.node.as_deref().is_none_or(|name| name == node.name());
        let selected = affinity::has_labels(&self.selector, node);
        let required =
            self.required.as_ref().is_none_or(|required| affinity::matches(required, node));
        if !(named && selected && required) {
            return Verdict::Leave;
        }
        let tolerated = |effects: &[&str]| {
            taints::untolerated(&node.spec.taints, &self.tolerations, effects).is_none()
        };
        if tolerated(&["NoExecute", "NoSchedule"]) {
            Verdict::Run
        } else if tolerated(&["NoExecute"]) {
            Verdict::Stay
        } else {
            Verdict::Leave
        }
    }
}

/// The template's tolerations with those that every daemon has.
fn tolerations(template: &PodSpec) -> Vec<Toleration> {
    let mut all = template.tolerations.clone().unwrap_or_default();
    let on_host = template.host_network == Some(true);
    for (key, effect) in TOLERATED.into_iter().chain(on_host.then_some(NETWORK_UNAVAILABLE)) {
        let wanted = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        // One that is there for a limited time becomes one for ever.
        let same = all.iter_mut().find(|one| {
            one.key == wanted.key && one.operator == wanted.operator && one.effect == wanted.effect
        });
        match same {
            Some(same) => *same = wanted,
            None => all.push(wanted),
        }
    }
    all
}

/// Makes a pod one for `node`: the scheduler, not the controller, puts it there, so that the node's
/// room and the other pods' priorities count.
pub(super) fn bind(spec: &mut PodSpec, node: &str) {
    spec.tolerations = Some(tolerations(spec));
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required = &mut affinity.required_during_scheduling_ignored_during_execution;
    required.get_or_insert_default().node_selector_terms = vec![NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: NAME_FIELD.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        ..NodeSelectorTerm::default()
    }];
}

/// The node that a pod not yet scheduled was made for.
pub(super) fn target(pod: &Object) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Placed {
        spec: Wanted,
    }
    #[derive(Deserialize)]
    struct Wanted {
        affinity: Option<Affinity>,
    }
    let affinity = pod.parse::<Placed>().ok()?.spec.affinity?.node_affinity?;
    let required = affinity.required_during_scheduling_ignored_during_execution?;
    let mut fields =
        required.node_selector_terms.into_iter().flat_map(|term| term.match_fields.into_iter());
    let field = fields.find_map(|fields| {
        fields.into_iter().find(|field| field.key == NAME_FIELD && field.operator == "In")
    })?;
    match field.values?.as_slice() {
        [name] => Some(name.as_str().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Draft;
    use serde_json::{Value, json};

    use super::*;

    fn verdict(template: Value, labels: Value, taints: Value) -> Verdict {
        let template: PodSpec = serde_json::from_value(template).unwrap();
        let node =
            json!({"metadata": {"name": "one", "labels": labels}, "spec": {"taints": taints}});
        Placement::of(&template).verdict(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn nodes_are_chosen_by_name_labels_and_affinity() {
        let of = |template| verdict(template, json!({"zone": "a"}), json!([]));
        assert_eq!(of(json!({})), Verdict::Run);
        assert_eq!(of(json!({"nodeName": "one"})), Verdict::Run);
        assert_eq!(of(json!({"nodeName": "two"})), Verdict::Leave);
        assert_eq!(of(json!({"nodeSelector": {"zone": "a"}})), Verdict::Run);
        assert_eq!(of(json!({"nodeSelector": {"zone": "b"}})), Verdict::Leave);
        let affinity = |terms| {
            json!({"affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        let by = |operator: &str| {
            affinity(json!([{"matchExpressions":
                [{"key": "zone", "operator": operator, "values": ["a"]}]}]))
        };
        assert_eq!(of(by("In")), Verdict::Run);
        assert_eq!(of(by("NotIn")), Verdict::Leave);
        assert_eq!(of(affinity(json!([{}]))), Verdict::Leave, "an empty term matches nothing");
    }

    #[test]
    fn taints_keep_daemons_from_starting_or_from_staying() {
        let of = |taints| verdict(json!({}), json!({}), taints);
        assert_eq!(of(json!([{"key": "k", "effect": "PreferNoSchedule"}])), Verdict::Run);
        assert_eq!(of(json!([{"key": "k", "effect": "NoSchedule"}])), Verdict::Stay);
        assert_eq!(of(json!([{"key": "k", "effect": "NoExecute"}])), Verdict::Leave);
        for (key, effect) in TOLERATED {
            assert_eq!(of(json!([{"key": key, "effect": effect}])), Verdict::Run, "{key}");
        }
        let (key, effect) = NETWORK_UNAVAILABLE;
        let no_network = json!([{"key": key, "effect": effect}]);
        assert_eq!(of(no_network.clone()), Verdict::Stay);
        assert_eq!(verdict(json!({"hostNetwork": true}), json!({}), no_network), Verdict::Run);
    }

    #[test]
    fn a_pod_made_for_a_node_says_so() {
        let mut spec: PodSpec = serde_json::from_value(json!({"containers": [], "tolerations": [
            {"key": TOLERATED[0].0, "operator": "Exists", "effect": TOLERATED[0].1,
                "tolerationSeconds": 5}]}))
        .unwrap();
        bind(&mut spec, "one");
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        assert_eq!(tolerations.len(), TOLERATED.len());
        assert_eq!(tolerations[0].toleration_seconds, None);
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let pod = Draft::new(&pod, &[] as &[&str]).unwrap().seal(1);
        assert_eq!(target(&pod).as_deref(), Some("one"));
    }
}
