//! Pods that were to be disrupted and were not: the condition that says so is taken back.

use std::time::Duration;

use apimachinery::{Key, Object};
use client::{
    Patch, PatchParams,
    controller::{Action, ReconcileError},
    is_not_found,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::json;

use super::Controller;

const CONDITION: &str = "DisruptionTarget";
/// How long a pod may be announced to go before it does.
const TIMEOUT: i64 = 120;

/// Whether a pod may have the condition: a look that costs no parse.
pub(super) fn may_be_target(pod: &Object) -> bool {
    let text = std::str::from_utf8(&pod.body);
    !pod.deleting && text.is_ok_and(|text| text.contains(CONDITION))
}

impl Controller {
    pub(super) async fn free_pod(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(pod) = self.pods.get_as::<Pod>(&key.namespace, &key.name) else {
            return Ok(Action::Done);
        };
        let Some(since) = announced(&pod) else { return Ok(Action::Done) };
        let passed = Timestamp::now().as_second().saturating_sub(since.as_second());
        if passed < TIMEOUT {
            let left = u64::try_from(TIMEOUT - passed).unwrap_or(0);
            return Ok(Action::Again(Duration::from_secs(left)));
        }
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
            "type": CONDITION, "status": "False", "reason": null, "message": null,
            "lastTransitionTime": apimachinery::time::now()}]}});
        let api = self.context.client.namespaced::<Pod>(&key.namespace);
        let patch = Patch::Strategic(&patch);
        match api.patch_status(&key.name, &PatchParams::default(), &patch).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}

/// Since when a pod that still lives is announced to go, other than by the kubelet.
fn announced(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let lives = !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let is_announced = |condition: &&PodCondition| {
        condition.type_ == CONDITION
            && condition.status == "True"
            && condition.reason.as_deref() != Some("TerminationByKubelet")
    };
    let condition = status.conditions.iter().flatten().find(is_announced)?;
    let since = condition.last_transition_time.as_ref().map(|time| time.0);
    (lives && pod.metadata.deletion_timestamp.is_none())
        .then_some(since.unwrap_or(Timestamp::UNIX_EPOCH))
}
