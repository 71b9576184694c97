//! TaintNodesByCondition: a new node takes no pods before it is known to be ready. The node
//! lifecycle controller takes the taint away.

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::{Fields as _, object_at};

pub(super) struct TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.creates() && request.is_object("", "nodes")
    }

    async fn mutate(&self, _call: &Call<'_>, node: &mut Value) -> Result<(), Status> {
        let is_there =
            |taint: &Value| taint.text("key") == NOT_READY && taint.text("effect") == "NoSchedule";
        if node["spec"].list("taints").iter().any(is_there) {
            return Ok(());
        }
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        if let Some(spec) = object_at(node, "spec") {
            match spec.get_mut("taints").and_then(Value::as_array_mut) {
                Some(taints) => taints.push(taint),
                None => drop(spec.insert("taints".to_owned(), json!([taint]))),
            }
        }
        Ok(())
    }
}
