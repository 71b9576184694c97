//! Roles, and the rules that ClusterRoles have too.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Context, Hooks,
    declared::{
        self,
        Given::Filled,
        Rule::{self, Each, Field, Optional, Required},
    },
    validation::{Errors, Report as _},
    value::Fields as _,
};

pub(crate) struct Role;

impl Hooks for Role {
    fn validate_create(&self, _context: &Context<'_>, role: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rules(role, true, &mut errors);
        declared::check(&[RULES], None, role, &Path::empty(), &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rules(new, true, &mut errors);
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

/// What is declared of the rules of a role.
pub(super) const RULES: Rule =
    Field("rules", &[Optional(Filled), Each(&[Field("verbs", &[Required(Filled)])])]);

/// Validates the rules of a role. What is declared is not among them.
pub(super) fn rules(role: &Value, namespaced: bool, errors: &mut Errors) {
    for (at, rule) in role.list("rules").iter().enumerate() {
        let path = Path::root("rules").index(at);
        let mut require = |field: &str, detail: &str| {
            if rule.list(field).is_empty() {
                errors.required(&path.child(field), detail);
            }
        };
        if rule.list("nonResourceURLs").is_empty() {
            require("apiGroups", "resource rules must supply at least one api group");
            require("resources", "resource rules must supply at least one resource");
            continue;
        }
        let (path, urls) = (path.child("nonResourceURLs"), &rule["nonResourceURLs"]);
        if namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.invalid(&path, urls.clone(), detail);
        }
        let others = ["apiGroups", "resources", "resourceNames"];
        if others.iter().any(|field| !rule.list(field).is_empty()) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&path, urls.clone(), detail);
        }
    }
}
