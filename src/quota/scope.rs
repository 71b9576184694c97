//! Scopes narrow a quota down to some of the objects.

use apimachinery::GroupResource;
use serde_json::Value;

/// One scope of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Such as `BestEffort` or `PriorityClass`.
    pub name: String,
    /// `Exists`, `DoesNotExist`, `In` or `NotIn`.
    pub operator: String,
    /// What `In` and `NotIn` speak of.
    pub values: Vec<String>,
}

/// The scopes of a quota: an object must match all of them to count.
pub fn scopes(quota: &Value) -> Vec<Scope> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &quota["spec"];
    let plain = spec["scopes"].as_array().into_iter().flatten().map(|name| Scope {
        name: text(name),
        operator: "Exists".to_owned(),
        values: Vec::new(),
    });
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let selected = selected.map(|requirement| Scope {
        name: text(&requirement["scopeName"]),
        operator: text(&requirement["operator"]),
        values: requirement["values"].as_array().into_iter().flatten().map(text).collect(),
    });
    plain.chain(selected).collect()
}

impl Scope {
    /// Whether the object is in the scope; one of a kind that has no such scope is not.
    pub fn matches(&self, resource: &GroupResource, object: &Value) -> bool {
        match (&*resource.group, &*resource.resource) {
            ("", "pods") => self.matches_pod(object),
            ("", "persistentvolumeclaims") if self.name == "VolumeAttributesClass" => {
                let classes = classes_of_claim(object);
                match self.operator.as_str() {
                    "Exists" => !classes.is_empty(),
                    _ if classes.is_empty() => self.selects(None),
                    _ => classes.into_iter().any(|class| self.selects(Some(class))),
                }
            }
            _ => false,
        }
    }

    fn matches_pod(&self, pod: &Value) -> bool {
        let spec = &pod["spec"];
        let terminating =
            || spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
        match self.name.as_str() {
            "Terminating" => terminating(),
            "NotTerminating" => !terminating(),
            "BestEffort" => is_best_effort(pod),
            "NotBestEffort" => !is_best_effort(pod),
            "PriorityClass" => {
                let class = spec["priorityClassName"].as_str().filter(|class| !class.is_empty());
                match self.operator.as_str() {
                    "Exists" => class.is_some(),
                    _ => self.selects(class),
                }
            }
            "CrossNamespacePodAffinity" => crosses_namespaces(spec),
            _ => false,
        }
    }

    fn selects(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|v| v == value));
        match self.operator.as_str() {
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "In" => listed(),
            "NotIn" => !listed(),
            _ => false,
        }
    }
}

fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod["status"]["qosClass"].as_str() {
        return class == "BestEffort";
    }
    let spec = &pod["spec"];
    let containers = ["containers", "initContainers"].iter();
    let all = containers.filter_map(|list| spec[*list].as_array()).flatten();
    !all.chain([spec]).any(|part| {
        ["requests", "limits"].iter().any(|list| {
            ["cpu", "memory"].iter().any(|name| !part["resources"][*list][*name].is_null())
        })
    })
}

/// Whether a pod (anti-)affinity term looks at other namespaces.
fn crosses_namespaces(spec: &Value) -> bool {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
            || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][*kind];
        items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]).iter().any(crosses)
            || items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"])
                .iter()
                .any(|term| crosses(&term["podAffinityTerm"]))
    })
}

fn classes_of_claim(claim: &Value) -> Vec<&str> {
    let mut classes: Vec<&str> = [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ]
    .iter()
    .filter_map(|path| claim.pointer(path)?.as_str())
    .filter(|class| !class.is_empty())
    .collect();
    classes.dedup();
    classes
}
