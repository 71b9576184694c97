//! ClusterRoles.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use super::role::{RULES, rules};
use crate::kinds::{
    Context, Hooks, declared,
    validation::{Errors, Report as _, label_selector_at},
    value::Fields as _,
};

pub(crate) struct ClusterRole;

impl Hooks for ClusterRole {
    fn validate_create(&self, _context: &Context<'_>, role: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(role, &mut errors);
        declared::check(&[RULES], None, role, &Path::empty(), &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(new, &mut errors);
        declared::check(&[RULES], Some(old), new, &Path::empty(), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment_name(name)
    }

    fn counts_generations(&self) -> bool {
        false
    }
}

fn validate(role: &Value, errors: &mut Errors) {
    rules(role, false, errors);
    let Some(aggregation) = role.sub("aggregationRule") else { return };
    let path = Path::root("aggregationRule").child("clusterRoleSelectors");
    let selectors = aggregation.list("clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&path, detail);
    }
    for (at, selector) in selectors.iter().enumerate() {
        let (path, before) = (path.index(at), errors.len());
        label_selector_at(selector, &path, errors);
        if errors.len() > before {
            errors.invalid_nil(&path, "invalid label selector.");
        }
    }
}
