//! PodDisruptionBudgets.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    apps::workload::{at_most_all, int_or_percent},
    columns::{self, age, name},
    validation::{
        Errors, Report as _, conditions, label_selector, not_negative, optional_one_of, spec,
    },
    value::Fields as _,
};

pub(crate) struct PodDisruptionBudget;

impl Hooks for PodDisruptionBudget {
    fn validate_create(&self, _context: &Context<'_>, budget: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (inner, path) = (&budget["spec"], spec());
        if inner.has("minAvailable") && inner.has("maxUnavailable") {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.invalid(&path, inner.clone(), detail);
        }
        for field in ["minAvailable", "maxUnavailable"] {
            if let Some(share) = inner.sub(field) {
                int_or_percent(share, &path.child(field), &mut errors);
                at_most_all(share, &path.child(field), &mut errors);
            }
        }
        label_selector(inner, "selector", &path, &mut errors);
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        optional_one_of(inner, "unhealthyPodEvictionPolicy", &path, &policies, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        if context.subresource != "status" {
            return self.validate_create(context, new);
        }
        let mut errors = Errors::new();
        let path = Path::root("status");
        conditions(&new["status"], &path, &mut errors);
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            not_negative(&new["status"], field, &path, &mut errors);
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::name_is_path_segment(name, prefix)
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("policy/poddisruptionbudgets")
    }

    fn cells(&self, budget: &Value) -> Vec<Value> {
        let share = |field: &str| match budget["spec"].sub(field) {
            None => "N/A".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(number) => number.to_string(),
        };
        vec![
            name(budget),
            share("minAvailable").into(),
            share("maxUnavailable").into(),
            budget["status"].int("disruptionsAllowed").unwrap_or_default().into(),
            age(budget),
        ]
    }
}
