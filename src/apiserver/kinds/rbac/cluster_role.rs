//! ClusterRoles.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::role::rules;
use crate::kinds::{
    Context, Hooks,
    validation::{Errors, Report as _, label_selector_at},
    value::Fields as _,
};

pub(crate) struct ClusterRole;

impl Hooks for ClusterRole {
    fn validate_create(&self, _context: &Context<'_>, role: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rules(role, false, &mut errors);
        let Some(aggregation) = role.sub("aggregationRule") else { return errors };
        let path = Path::root("aggregationRule").child("clusterRoleSelectors");
        let selectors = aggregation.list("clusterRoleSelectors");
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.required(&path, detail);
        }
        for (at, selector) in selectors.iter().enumerate() {
            label_selector_at(selector, &path.index(at), &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        self.validate_create(context, new)
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment_name(name)
    }

    fn counts_generations(&self) -> bool {
        false
    }
}
