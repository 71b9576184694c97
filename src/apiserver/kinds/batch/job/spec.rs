//! The spec of a job, which CronJobs hold too.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::indexes;
use crate::kinds::{
    apps::workload,
    pod_spec,
    validation::{
        Errors, Report as _, domain_prefixed_path, label_name, label_selector, not_negative, one_of,
    },
    value::{Fields as _, list_mut, set_default},
};

const INDEXED: &str = "when completion mode is Indexed";
const NEEDS_INDEXES: &str = "requires indexed completion mode";
/// Bounds of indexed jobs.
const MOST: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
const RULES: usize = 20;

/// Defaults that follow from other fields.
pub(super) fn default_spec(spec: &mut Value) {
    if !spec.has("completions") && !spec.has("parallelism") {
        set_default(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    let limit = if spec.has("backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    set_default(spec, "backoffLimit", limit);
    let replace = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    set_default(spec, "podReplacementPolicy", replace);
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in list_mut(policy, "rules") {
            for pattern in list_mut(rule, "onPodConditions") {
                if pattern.text("status").is_empty() {
                    pattern["status"] = "True".into();
                }
            }
        }
    }
    set_default(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    if let Some(template) = spec.get_mut("template") {
        pod_spec::default_template(template);
    }
}

/// Validates the spec of a job.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    validate_template(spec, path, errors);
    if spec.has("selector") {
        label_selector(spec, "selector", path, errors);
    } else {
        errors.required(&path.child("selector"), "");
    }
    if !spec.has("selector") || !workload::matches(&spec["selector"], &spec["template"]) {
        workload::mismatch(spec, &path.child("template"), errors);
    }
}

/// Validates what jobs and the templates of jobs share.
pub(crate) fn validate_template(spec: &Value, path: &Path, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, field, path, errors);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let detail = "when maxFailedIndexes is specified";
        errors.required(&path.child("backoffLimitPerIndex"), detail);
    }
    if let Some(manager) = spec.opt_text("managedBy") {
        domain_prefixed_path(manager, &path.child("managedBy"), errors);
        if manager.len() > 63 {
            errors.push(FieldError::too_long(&path.child("managedBy"), 63));
        }
    }
    completion_mode(spec, path, errors);
    if let Some(policy) = spec.sub("podFailurePolicy") {
        failure_policy(spec, policy, &path.child("podFailurePolicy").child("rules"), errors);
    }
    if let Some(policy) = spec.sub("successPolicy") {
        let path = path.child("successPolicy");
        match spec.text("completionMode") {
            "Indexed" => success_policy(spec, policy, &path.child("rules"), errors),
            _ => {
                errors.invalid(&path, policy.clone(), NEEDS_INDEXES);
            }
        }
    }
    if let Some(policy) = spec.opt_text("podReplacementPolicy") {
        let all = ["Failed", "TerminatingOrFailed"];
        let allowed = if spec.has("podFailurePolicy") { &all[..1] } else { &all[..] };
        if !allowed.contains(&policy) {
            errors.unsupported(&path.child("podReplacementPolicy"), policy, allowed);
        }
    }
    pod_spec::template(&spec["template"], &path.child("template"), errors);
    let place = path.child("template").child("spec").child("restartPolicy");
    match spec["template"]["spec"].text("restartPolicy") {
        "" | "Always" => errors.required(&place, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if !spec.has("podFailurePolicy") => {}
        "OnFailure" => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&place, "OnFailure", detail);
        }
        other => errors.unsupported(&place, other, &["OnFailure", "Never"]),
    }
}

fn completion_mode(spec: &Value, path: &Path, errors: &mut Errors) {
    let mode = spec.opt_text("completionMode");
    if let Some(mode) = mode.filter(|mode| !matches!(*mode, "NonIndexed" | "Indexed")) {
        errors.unsupported(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    let number = |field: &str| spec.int(field);
    match mode {
        Some("Indexed") => {
            if number("completions").is_none() {
                errors.required(&path.child("completions"), INDEXED);
            }
            let mut at_most = |field: &str, most: i64, detail: &str| {
                if let Some(value) = number(field).filter(|value| *value > most) {
                    errors.invalid(&path.child(field), value, detail);
                }
            };
            let limit = format!("must be less than or equal to {MOST}");
            at_most("parallelism", MOST, &format!("{limit} {INDEXED}"));
            if let Some(completions) = number("completions") {
                let detail = "must be less than or equal to completions";
                at_most("maxFailedIndexes", completions, detail);
            }
            at_most("maxFailedIndexes", MOST, &limit);
            let many = number("completions").is_some_and(|count| count > MANY_COMPLETIONS);
            if many && spec.has("backoffLimitPerIndex") {
                let detail = format!(
                    "must be less than or equal to {MOST_OF_MANY} when completions are above \
                     {MANY_COMPLETIONS} and used with backoff limit per index"
                );
                if !spec.has("maxFailedIndexes") {
                    let detail =
                        format!("must be specified when completions is above {MANY_COMPLETIONS}");
                    errors.required(&path.child("maxFailedIndexes"), &detail);
                }
                for field in ["parallelism", "maxFailedIndexes"] {
                    if let Some(value) = number(field).filter(|value| *value > MOST_OF_MANY) {
                        errors.invalid(&path.child(field), value, &detail);
                    }
                }
            }
        }
        None | Some("NonIndexed") => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(value) = number(field) {
                    errors.invalid(&path.child(field), value, NEEDS_INDEXES);
                }
            }
        }
        Some(_) => {}
    }
}

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATES: [&str; 3] = ["False", "True", "Unknown"];

/// A choice that must be made: upstream lists the choices in Go's way.
fn chosen(object: &Value, field: &str, path: &Path, allowed: &[&str], errors: &mut Errors) {
    if object.text(field).is_empty() {
        let quoted: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
        let detail = format!("valid values: [{}]", quoted.join(" "));
        return errors.required(&path.child(field), &detail);
    }
    one_of(object, field, path, allowed, errors);
}

fn failure_policy(spec: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    let rules = policy.list("rules");
    if rules.len() > RULES {
        errors.push(FieldError::too_many(path, rules.len(), RULES));
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        chosen(rule, "action", &path, &ACTIONS, errors);
        if rule.text("action") == "FailIndex" && !spec.has("backoffLimitPerIndex") {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.invalid(&path.child("action"), "FailIndex", detail);
        }
        let patterns = rule.list("onPodConditions");
        if let Some(codes) = rule.sub("onExitCodes") {
            exit_codes(spec, codes, &path.child("onExitCodes"), errors);
        }
        let place = path.child("onPodConditions");
        if patterns.len() > RULES {
            errors.push(FieldError::too_many(&place, patterns.len(), RULES));
        }
        for (at, pattern) in patterns.iter().enumerate() {
            let path = place.index(at);
            label_name(pattern.text("type"), &path.child("type"), errors);
            chosen(pattern, "status", &path, &STATES, errors);
        }
        let detail = match (rule.has("onExitCodes"), patterns.is_empty()) {
            (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid_without_value(&path, detail));
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut Errors) {
    const MOST: usize = 255;
    chosen(codes, "operator", path, &OPERATORS, errors);
    if let Some(container) = codes.opt_text("containerName") {
        let pod = &spec["template"]["spec"];
        let mut all = pod.list("containers").iter().chain(pod.list("initContainers"));
        if !all.any(|other| other.text("name") == container) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.child("containerName"), container, detail);
        }
    }
    let values: Vec<i64> = codes.list("values").iter().filter_map(Value::as_i64).collect();
    let place = path.child("values");
    if values.is_empty() {
        errors.invalid(&place, codes["values"].clone(), "at least one value is required");
    } else if values.len() > MOST {
        errors.push(FieldError::too_many(&place, values.len(), MOST));
    }
    for (at, value) in values.iter().enumerate() {
        if codes.text("operator") == "In" && *value == 0 {
            errors.invalid(&place.index(at), 0, "must not be 0 for the In operator");
        }
        if values[..at].contains(value) {
            errors.duplicate(&place.index(at), *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&place, codes["values"].clone(), "must be ordered");
    }
}

fn success_policy(spec: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    const LONGEST: usize = 64 << 10;
    let rules = policy.list("rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(path, detail);
    }
    if rules.len() > RULES {
        errors.push(FieldError::too_many(path, rules.len(), RULES));
    }
    let completions = spec.int("completions").unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        let named = rule.opt_text("succeededIndexes");
        if named.is_none() && !rule.has("succeededCount") {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&path, detail);
        }
        let mut total = 0;
        if let Some(text) = named {
            let path = path.child("succeededIndexes");
            if text.len() > LONGEST {
                errors.push(FieldError::too_long(&path, LONGEST));
            }
            match indexes::count(text, completions) {
                Ok(count) => total = count,
                Err(why) => {
                    let detail = format!("error parsing succeededIndexes: {why}");
                    errors.invalid(&path, text, &detail);
                }
            }
        }
        let Some(count) = rule.int("succeededCount") else { continue };
        not_negative(rule, "succeededCount", &path, errors);
        let path = path.child("succeededCount");
        let most = "must be less than or equal to";
        if count > completions {
            let detail = format!("{most} {completions} (the number of specified completions)");
            errors.invalid(&path, count, &detail);
        }
        if named.is_some() && count > total {
            let detail = format!(
                "{most} {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&path, count, &detail);
        }
    }
}
