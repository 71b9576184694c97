//! What a Job's spec says about failures and successes of its pods.

use k8s_openapi::api::{
    batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule},
    core::v1::{ContainerStatus, PodStatus},
};

use super::{indexes::Indexes, pods::JobPod};
use crate::pod::Phase;

/// What follows from a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It counts towards the backoff limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

impl Consequence {
    pub(super) fn counts(&self) -> bool {
        *self != Self::Ignore
    }
}

pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// Whether pods that are being deleted are replaced only once they ended.
pub(super) fn replaces_only_failed(job: &Job) -> bool {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_replacement_policy.as_deref());
    policy == Some("Failed")
}

/// Whether a pod counts as failed: a pod that is deleted may never come to report a phase.
pub(super) fn is_failed(pod: &JobPod, job: &Job) -> bool {
    match pod.facts.phase {
        Phase::Failed => true,
        Phase::Succeeded => false,
        _ => pod.object.deleting && !replaces_only_failed(job),
    }
}

/// What the Job's podFailurePolicy says of a failed pod: the first rule that matches.
pub(super) fn consequence(job: &Job, pod: &JobPod) -> Consequence {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let mut matches = rules.iter().enumerate().filter_map(|(at, rule)| {
        let cause = cause(rule, pod)?;
        match rule.action.as_str() {
            "Ignore" => Some(Consequence::Ignore),
            "FailIndex" => Some(Consequence::FailIndex),
            "Count" => Some(Consequence::Count),
            "FailJob" => {
                Some(Consequence::FailJob(format!("{cause} matching FailJob rule at index {at}")))
            }
            _ => None,
        }
    });
    matches.next().unwrap_or(Consequence::Count)
}

fn cause(rule: &PodFailurePolicyRule, pod: &JobPod) -> Option<String> {
    let key = &pod.object.key;
    if let Some(wanted) = &rule.on_exit_codes {
        let (name, code) = exited(&pod.status, wanted)?;
        return Some(format!("Container {name} for pod {key} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref()?;
    let mut conditions = pod.status.conditions.iter().flatten();
    let condition = conditions.find(|condition| {
        patterns.iter().any(|pattern| {
            pattern.type_ == condition.type_
                && pattern.status.as_deref().unwrap_or("True") == condition.status
        })
    })?;
    Some(format!("Pod {key} has condition {}", condition.type_))
}

/// The first container that ended with a code the rule is about.
fn exited<'a>(
    status: &'a PodStatus,
    wanted: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let main = status.container_statuses.iter().flatten();
    let all = main.chain(status.init_container_statuses.iter().flatten());
    let code = |status: &ContainerStatus| {
        status.state.as_ref()?.terminated.as_ref().map(|terminated| terminated.exit_code)
    };
    all.filter(|status| wanted.container_name.as_ref().is_none_or(|name| *name == status.name))
        .filter_map(|status| Some((status.name.as_str(), code(status)?)))
        .find(|(_, code)| {
            let among = wanted.values.contains(code);
            *code != 0 && if wanted.operator == "In" { among } else { !among }
        })
}

/// What the successPolicy says where one of its rules is met.
pub(super) fn success(job: &Job, succeeded: &Indexes) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let rules = &spec.success_policy.as_ref()?.rules;
    let completions = spec.completions.unwrap_or(0);
    let met = rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            let common = wanted.common(succeeded);
            wanted.total() > 0
                && succeeded.total() > 0
                && (common == wanted.total()
                    || rule.succeeded_count.is_some_and(|count| common >= count))
        }
        None => rule
            .succeeded_count
            .is_some_and(|count| succeeded.total() > 0 && succeeded.total() >= count),
    })?;
    Some(format!("Matched rules at index {met}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::pods::tests::pod, *};

    fn job(spec: Value) -> Job {
        let mut job = json!({"spec": {"template": {}, "completions": 5}});
        job["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let with = |action: &str, operator: &str| {
            let job = job(json!({"podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                {"action": action, "onExitCodes": {"operator": operator, "values": [1]}}]}}));
            consequence(&job, &pod("p", "Failed", None, 1))
        };
        assert_eq!(with("Ignore", "In"), Consequence::Ignore);
        assert_eq!(with("FailIndex", "In"), Consequence::FailIndex);
        assert_eq!(with("Ignore", "NotIn"), Consequence::Count);
        let message =
            "Container c for pod p failed with exit code 1 matching FailJob rule at index 1";
        assert_eq!(with("FailJob", "In"), Consequence::FailJob(message.to_owned()));
    }

    #[test]
    fn a_success_policy_is_met_by_indexes_or_by_number() {
        let met = |rule: Value, succeeded: &str| {
            let job = job(json!({"successPolicy": {"rules": [rule]}}));
            success(&job, &Indexes::parse(succeeded, 5)).is_some()
        };
        let both = json!({"succeededIndexes": "0-2", "succeededCount": 1});
        assert!(met(both, "1"));
        assert!(!met(json!({"succeededIndexes": "0-2"}), "0,1,4"));
        assert!(met(json!({"succeededIndexes": "0-2"}), "0-2"));
        assert!(met(json!({"succeededCount": 2}), "3,4"));
        assert!(!met(json!({"succeededCount": 2}), "3"));
    }
}
