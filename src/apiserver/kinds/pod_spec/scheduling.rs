//! Where a pod may run: gates, tolerations, spreading.

use apimachinery::{field::Path, names};
use serde_json::Value;

use crate::kinds::{
    validation::{Errors, POSITIVE, Report as _, label_name, label_selector},
    value::Fields as _,
};

/// Readiness and scheduling gates.
pub(super) fn gates(spec: &Value, path: &Path, errors: &mut Errors) {
    for (at, gate) in spec.list("readinessGates").iter().enumerate() {
        let path = path.child("readinessGates").index(at).child("conditionType");
        label_name(gate.text("conditionType"), &path, errors);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (at, gate) in spec.list("schedulingGates").iter().enumerate() {
        let path = path.child("schedulingGates").index(at);
        let name = gate.text("name");
        label_name(name, &path, errors);
        if seen.contains(&name) {
            errors.duplicate(&path, name);
        }
        seen.push(name);
    }
}

pub(crate) fn tolerations(spec: &Value, path: &Path, errors: &mut Errors) {
    for (at, toleration) in spec.list("tolerations").iter().enumerate() {
        let path = path.child("tolerations").index(at);
        let (key, operator, value) =
            (toleration.text("key"), toleration.text("operator"), toleration.text("value"));
        let effect = toleration.text("effect");
        if !key.is_empty() {
            label_name(key, &path.child("key"), errors);
        }
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.invalid(&path.child("operator"), value, &messages.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.invalid(&path.child("operator"), value, detail);
                }
            }
            "Lt" | "Gt" => {
                let allowed = ["Equal", "Exists", "Lt", "Gt"];
                errors.unsupported(&path.child("operator"), operator, &allowed);
            }
            other => errors.unsupported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(effect, &path.child("effect"), errors);
        }
    }
}

/// The effect of a taint, which is not empty.
pub(crate) fn taint_effect(effect: &str, path: &Path, errors: &mut Errors) {
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !effects.contains(&effect) {
        errors.unsupported(path, effect, &effects);
    }
}

pub(super) fn spread(spec: &Value, path: &Path, errors: &mut Errors) {
    let all = spec.list("topologySpreadConstraints");
    for (at, constraint) in all.iter().enumerate() {
        let path = path.index(at);
        let skew = constraint.int("maxSkew").unwrap_or_default();
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, POSITIVE);
        }
        let key = constraint.text("topologyKey");
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let action = constraint.text("whenUnsatisfiable");
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            let allowed = ["DoNotSchedule", "ScheduleAnyway"];
            errors.unsupported(&path.child("whenUnsatisfiable"), action, &allowed);
        }
        let same = |other: &Value| {
            other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action
        };
        if all[at + 1..].iter().any(same) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.duplicate(&path, format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = constraint.int("minDomains") {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.invalid(&path, domains, POSITIVE);
            }
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.invalid(&path, domains, &detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.opt_text(field)
                && !matches!(policy, "Honor" | "Ignore")
            {
                errors.unsupported(&path.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(constraint, &path, errors);
        label_selector(constraint, "labelSelector", &path, errors);
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside the selector that they add to.
pub(super) fn label_keys(term: &Value, path: &Path, errors: &mut Errors) {
    let selector = term.sub("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if term.list(field).is_empty() {
            continue;
        }
        let path = path.child(field);
        if selector.is_none() {
            errors.forbidden(&path, "must not be specified when labelSelector is not set");
            continue;
        }
        for (at, key) in term.texts(field).enumerate() {
            label_name(key, &path.index(at), errors);
        }
    }
    if let Some(selector) = selector {
        let mut seen: Vec<&str> = selector.strings("matchLabels").map(|(key, _)| key).collect();
        for expression in selector.list("matchExpressions") {
            let key = expression.text("key");
            // The registry has merged the keys into the selector: twice means that the client
            // has named the key there, too.
            if let Some(at) = term.texts("matchLabelKeys").position(|known| known == key)
                && seen.contains(&key)
            {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.invalid(&path.index(at), key, detail);
            }
            seen.push(key);
        }
    }
    for (at, key) in term.texts("matchLabelKeys").enumerate() {
        if term.texts("mismatchLabelKeys").any(|other| other == key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&path.child("matchLabelKeys").index(at), key, detail);
        }
    }
}
