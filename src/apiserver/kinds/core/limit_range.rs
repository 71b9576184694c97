//! LimitRanges.

use std::collections::BTreeSet;

use apimachinery::{
    field::{FieldError, Path},
    names,
    quantity::Quantity,
};
use serde_json::Value;

use crate::kinds::{
    Context, Hooks,
    resource_names::{any, may_overcommit, of_container},
    validation::{Errors, Report as _, quantity, spec},
    value::{Fields as _, list_mut, object_at},
};

pub(crate) struct LimitRange;

impl Hooks for LimitRange {
    fn default(&self, range: &mut Value) {
        let Some(spec) = range.get_mut("spec") else { return };
        for limit in list_mut(spec, "limits") {
            if limit.text("type") == "Container" {
                fill(limit, "max", "default");
                fill(limit, "default", "defaultRequest");
                fill(limit, "min", "defaultRequest");
            }
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, range: &mut Value) {
        if range["metadata"].text("name").is_empty()
            && let Some(metadata) = object_at(range, "metadata")
        {
            metadata.insert("name".to_owned(), uuid::Uuid::new_v4().to_string().into());
        }
    }

    fn validate_create(&self, _context: &Context<'_>, range: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let limits = range["spec"].list("limits");
        for (at, limit) in limits.iter().enumerate() {
            let path = spec().child("limits").index(at);
            let kind = limit.text("type");
            kind_of(kind, &path.child("type"), &mut errors);
            if limits[..at].iter().any(|other| other.text("type") == kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            validate(limit, &path, &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        self.validate_create(context, new)
    }

    fn counts_generations(&self) -> bool {
        false
    }
}

/// What `from` says and `to` does not.
fn fill(limit: &mut Value, from: &str, to: &str) {
    let Some(source) = limit.sub(from).cloned() else { return };
    let Some(target) = object_at(limit, to) else { return };
    for (resource, amount) in source.as_object().into_iter().flatten() {
        target.entry(resource.clone()).or_insert_with(|| amount.clone());
    }
}

fn kind_of(kind: &str, path: &Path, errors: &mut Errors) {
    let messages = names::qualified_name(kind);
    let good = messages.is_empty();
    errors.messages(path, kind, messages);
    let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if good && !kind.contains('/') && !standard {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
}

fn validate(limit: &Value, path: &Path, errors: &mut Errors) {
    let kind = limit.text("type");
    let mut names = BTreeSet::new();
    let mut lists = vec!["max", "min"];
    if kind == "Pod" {
        for list in ["default", "defaultRequest"] {
            if limit.entries(list).next().is_some() {
                let detail = "may not be specified when `type` is 'Pod'";
                errors.forbidden(&path.child(list), detail);
            }
        }
    } else {
        lists.extend(["default", "defaultRequest"]);
    }
    let mut collect = |list: &str, errors: &mut Errors| {
        for (resource, _) in limit.entries(list) {
            let path = path.child(list).key(resource);
            match kind {
                "Pod" | "Container" => of_container(resource, &path, errors),
                _ => drop(any(resource, &path, errors)),
            }
            names.insert(resource.clone());
        }
    };
    lists.into_iter().for_each(|list| collect(list, errors));
    let storage = ["min", "max"].iter().any(|list| limit[*list].has("storage"));
    if kind == "PersistentVolumeClaim" && !storage {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    collect("maxLimitRequestRatio", errors);
    for resource in names {
        consistent(limit, &resource, kind == "Pod", path, errors);
    }
}

/// The bounds and defaults of one resource must go together.
fn consistent(limit: &Value, resource: &str, is_pod: bool, path: &Path, errors: &mut Errors) {
    let amount = |list: &str| limit[list].sub(resource).map(quantity);
    let (min, max) = (amount("min"), amount("max"));
    let default = amount("default").filter(|_| !is_pod);
    let request = amount("defaultRequest").filter(|_| !is_pod);
    let mut ordered =
        |low: (Option<Quantity>, &str), high: (Option<Quantity>, &str), at: &str, shown| {
            let (Some(small), Some(big)) = (low.0, high.0) else { return };
            if small > big {
                let detail = format!("{} {small} is greater than {} {big}", low.1, high.1);
                let shown = if shown { small } else { big };
                errors.invalid(&path.child(at).key(resource), shown.to_string(), &detail);
            }
        };
    let (low, high) = ((min, "min value"), (max, "max value"));
    let asked = (request, "default request value");
    ordered(low, high, "min", true);
    ordered(low, asked, "defaultRequest", false);
    ordered(asked, high, "defaultRequest", true);
    ordered(asked, (default, "default limit value"), "defaultRequest", true);
    ordered(low, (default, "default value"), "default", true);
    ordered((default, "default value"), high, "default", false);
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        let path = path.child("maxLimitRequestRatio").key(resource);
        if ratio < Quantity::from_scaled(1, 0) {
            let detail = format!("ratio {ratio} is less than 1");
            errors.invalid(&path, ratio.to_string(), &detail);
        }
        if let (Some(min), Some(max)) = (min, max) {
            let most = max.as_f64() / min.as_f64();
            if ratio.as_f64() > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                errors.invalid(&path, ratio.to_string(), &detail);
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !may_overcommit(resource)
        && default != request
    {
        let detail = format!(
            "default value {default} must equal to defaultRequest value {request} in {resource}"
        );
        let path = path.child("defaultRequest").key(resource);
        errors.invalid(&path, request.to_string(), &detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::validation::texts;

    #[test]
    fn defaults_follow_from_bounds() {
        let mut range = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Gi"}},
            {"type": "Pod", "max": {"cpu": "2"}},
        ]}});
        LimitRange.default(&mut range);
        let limits = range["spec"].list("limits");
        assert_eq!(limits[0]["default"], json!({"cpu": "2"}));
        assert_eq!(limits[0]["defaultRequest"], json!({"cpu": "2", "memory": "1Gi"}));
        assert_eq!(limits[1], json!({"type": "Pod", "max": {"cpu": "2"}}));
    }

    #[test]
    fn bounds_must_go_together() {
        let mut errors = Errors::new();
        let limit = json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"},
            "default": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "500m"}});
        validate(&limit, &Path::root("l"), &mut errors);
        assert_eq!(
            texts(&errors),
            [
                "l.min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "l.default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 500m",
                "l.maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ]
        );
    }
}
