//! DefaultTolerationSeconds: a pod stays five minutes on a node that is gone, unless it says
//! otherwise.

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::value::{Fields as _, object_at};

pub(super) struct DefaultTolerationSeconds;

const SECONDS: i64 = 300;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        (request.creates() || request.updates()) && request.is_object("", "pods")
    }

    async fn mutate(&self, _call: &Call<'_>, pod: &mut Value) -> Result<(), Status> {
        let missing: Vec<Value> =
            ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
                .into_iter()
                .filter(|taint| {
                    !pod["spec"].list("tolerations").iter().any(|toleration| {
                        (toleration.text("key") == *taint || toleration.text("key").is_empty())
                            && matches!(toleration.text("effect"), "NoExecute" | "")
                    })
                })
                .map(|taint| {
                    json!({"key": taint, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": SECONDS})
                })
                .collect();
        if !missing.is_empty()
            && let Some(spec) = object_at(pod, "spec")
        {
            let list = spec.entry("tolerations").or_insert(Value::Null);
            match list.as_array_mut() {
                Some(tolerations) => tolerations.extend(missing),
                None => *list = missing.into(),
            }
        }
        Ok(())
    }
}
