//! Taints keep pods away that do not tolerate them.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::{
    cache::NodeInfo,
    framework::{ClusterEvent, Filter, Rejection},
    pod::PodInfo,
};

/// The pod tolerates the taints of the node that keep pods away.
pub struct TaintToleration;

impl Filter for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let taints = node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
        let untolerated = taints
            .unwrap_or_default()
            .iter()
            .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
            .find(|taint| !tolerates(pod, taint));
        match untolerated {
            None => Ok(()),
            Some(_) => Err(Rejection::final_("node(s) had untolerated taint(s)")),
        }
    }

    fn helped_by(&self, event: ClusterEvent) -> bool {
        matches!(event, ClusterEvent::NodeAdded | ClusterEvent::NodeChanged)
    }
}

/// Whether any toleration of `pod` covers `taint`.
pub(crate) fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    let tolerations = pod.spec().and_then(|spec| spec.tolerations.as_deref());
    tolerations.unwrap_or_default().iter().any(|toleration| covers(toleration, taint))
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    fn empty(text: Option<&str>) -> bool {
        text.unwrap_or_default().is_empty()
    }
    let effect = toleration.effect.as_deref();
    let key = toleration.key.as_deref();
    if !(empty(effect) || effect == Some(&taint.effect)) || !(empty(key) || key == Some(&taint.key))
    {
        return false;
    }
    let (given, wanted) = (
        taint.value.as_deref().unwrap_or_default(),
        toleration.value.as_deref().unwrap_or_default(),
    );
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Equal" | "" => given == wanted,
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(toleration: serde_json::Value) -> bool {
        let taint = Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        covers(&serde_json::from_value(toleration).unwrap(), &taint)
    }

    #[test]
    fn a_toleration_covers_by_key_value_and_effect() {
        assert!(check(json!({"key": "k", "value": "v"})));
        assert!(check(json!({"key": "k", "operator": "Exists"})));
        assert!(check(json!({"operator": "Exists"})));
        assert!(check(json!({"key": "k", "value": "v", "effect": "NoSchedule"})));
        assert!(!check(json!({"key": "k", "value": "w"})));
        assert!(!check(json!({"key": "l", "operator": "Exists"})));
        assert!(!check(json!({"operator": "Exists", "effect": "NoExecute"})));
    }
}
