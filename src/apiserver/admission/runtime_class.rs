//! RuntimeClass: a pod pays the overhead of its runtime and goes where there is one (KEP-585).

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::{Fields as _, object_at, same};

pub(super) struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.creates() && request.is_object("", "pods")
    }

    async fn mutate(&self, call: &Call<'_>, pod: &mut Value) -> Result<(), Status> {
        let Some(class) = class_of(call, pod)? else { return Ok(()) };
        if let Some(overhead) = class.sub("overhead") {
            let fixed = &overhead["podFixed"];
            let own = &pod["spec"]["overhead"];
            if own.as_object().is_some_and(|own| !own.is_empty()) && !same_amounts(own, fixed) {
                return Err(call.request.forbidden(pod, MISMATCH));
            }
            pod["spec"]["overhead"] = fixed.clone();
        }
        let Some(scheduling) = class.sub("scheduling") else { return Ok(()) };
        for (key, wanted) in scheduling.entries("nodeSelector") {
            if let Some(own) = pod["spec"]["nodeSelector"].sub(key).filter(|own| *own != wanted) {
                let why = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; \
                     pod.spec.nodeSelector[{key}] = {}",
                    wanted.as_str().unwrap_or_default(),
                    own.as_str().unwrap_or_default()
                );
                return Err(call.request.forbidden(pod, &why));
            }
            if let Some(selector) = object_at(&mut pod["spec"], "nodeSelector") {
                selector.insert(key.clone(), wanted.clone());
            }
        }
        let all = [pod["spec"].list("tolerations"), scheduling.list("tolerations")].concat();
        if !all.is_empty() {
            pod["spec"]["tolerations"] = merged(&all).into();
        }
        Ok(())
    }

    async fn validate(&self, call: &Call<'_>, pod: &Value) -> Result<(), Status> {
        let class = class_of(call, pod)?.unwrap_or_default();
        let refuse = |why: &str| Err(call.request.forbidden(pod, why));
        let own = &pod["spec"]["overhead"];
        match class.sub("overhead") {
            Some(overhead) if !same_amounts(&overhead["podFixed"], own) => refuse(MISMATCH),
            None if !own.is_null() => refuse(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            _ => Ok(()),
        }
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn class_of(call: &Call<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(name) = pod["spec"].opt_text("runtimeClassName") else { return Ok(None) };
    match call.get("node.k8s.io", "runtimeclasses", "", name) {
        Some(class) => Ok(Some(class)),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(call.request.forbidden(pod, &why))
        }
    }
}

fn same_amounts(left: &Value, right: &Value) -> bool {
    quota::amounts::read(left) == quota::amounts::read(right)
}

/// Tolerations without those that another one covers; of two equal ones the first stays.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut result: Vec<Value> = Vec::new();
    for (at, toleration) in all.iter().enumerate() {
        let covered = result.iter().any(|other| covers(other, toleration))
            || all[at + 1..]
                .iter()
                .any(|other| !same(other, toleration) && covers(other, toleration));
        if !covered {
            result.push(toleration.clone());
        }
    }
    result
}

/// Whether `wide` tolerates whatever `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if same(wide, narrow) {
        return true;
    }
    let any_key = wide.text("key").is_empty() && wide.text("operator") == "Exists";
    if narrow.text("key") != wide.text("key") && !any_key {
        return false;
    }
    let effect = wide.text("effect");
    if !effect.is_empty() && effect != narrow.text("effect") {
        return false;
    }
    if effect == "NoExecute"
        && let Some(seconds) = wide.int("tolerationSeconds")
        && narrow.int("tolerationSeconds").is_none_or(|narrow| narrow > seconds)
    {
        return false;
    }
    match wide.text("operator") {
        "Exists" => true,
        "Equal" | "" => {
            narrow.text("operator") == "Equal" && narrow.text("value") == wide.text("value")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations_that_another_covers_go() {
        let any = json!({"operator": "Exists"});
        let keyed = json!({"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"});
        let brief = json!({"key": "a", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 5});
        let forever = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        let merge = |all: [&Value; 2]| merged(&all.map(Clone::clone));
        assert_eq!(merge([&keyed, &any])[..], *std::slice::from_ref(&any));
        assert_eq!(merge([&keyed, &keyed])[..], *std::slice::from_ref(&keyed));
        assert_eq!(merge([&brief, &forever])[..], *std::slice::from_ref(&forever));
        assert_eq!(merge([&keyed, &brief]), [keyed, brief]);
    }
}
