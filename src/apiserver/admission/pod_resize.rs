//! PodResizeValidator: a resize that the pod's node could never grant is refused (KEP-1287).

use apimachinery::{Status, quantity::Quantity, status::StatusCause};
use async_trait::async_trait;
use quota::pod::{View, requests};
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin};
use crate::kinds::{validation::quantity, value::Fields as _};

pub(super) struct PodResizeValidator;

#[async_trait]
impl Plugin for PodResizeValidator {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.updates() && request.is("", "pods") && request.info.subresource == "resize"
    }

    async fn validate(&self, call: &Call<'_>, pod: &Value) -> Result<(), Status> {
        let name = pod["spec"].text("nodeName");
        let same = pod["metadata"]["generation"] == call.request.old()["metadata"]["generation"];
        if name.is_empty() || same {
            return Ok(());
        }
        let Some(node) = call.get("", "nodes", "", name) else {
            return Err(call.request.forbidden(pod, &format!("node {name:?} not found")));
        };
        let refuse = |why: &str, reason: &str| {
            let mut status = call.request.forbidden(pod, why);
            status
                .details
                .causes
                .push(StatusCause { reason: reason.to_owned(), ..StatusCause::default() });
            Err(status)
        };
        let system = node["metadata"]["labels"].opt_text("kubernetes.io/os");
        if let Some(system) = system.filter(|system| *system != "linux") {
            let why =
                format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
            return refuse(&why, "UnsupportedPlatform");
        }
        let asked = requests(pod, View::Spec);
        let too_much: Vec<String> = ["cpu", "memory"]
            .into_iter()
            .filter_map(|resource| {
                let asked = asked.get(resource).copied().unwrap_or(Quantity::ZERO);
                let there = quantity(&node["status"]["allocatable"][resource]);
                let shown = |amount: Quantity| match resource {
                    "cpu" => amount.milli_value(),
                    _ => amount.value(),
                };
                (asked > there).then(|| {
                    format!(
                        "{resource}, requested: {}, allocatable: {}",
                        shown(asked),
                        shown(there)
                    )
                })
            })
            .collect();
        if too_much.is_empty() {
            return Ok(());
        }
        let why = format!("node didn't have enough allocatable resources: {}", too_much.join("; "));
        refuse(&why, "NodeCapacity")
    }
}
