//! RoleBindings and ClusterRoleBindings.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    declared::{
        self,
        Given::Filled,
        Rule::{self, Each, Field, Optional, Required, Unchanged},
    },
    validation::{Errors, Report as _, dns_subdomain, immutable},
    value::{Fields as _, list_mut, object_at},
};

/// A binding within one namespace, or for the whole cluster.
pub(crate) struct Binding {
    pub(crate) namespaced: bool,
}

const GROUP: &str = "rbac.authorization.k8s.io";

impl Hooks for Binding {
    fn default(&self, binding: &mut Value) {
        if let Some(role) = object_at(binding, "roleRef") {
            let group = role.entry("apiGroup").or_insert(Value::Null);
            if group.as_str().is_none_or(str::is_empty) {
                *group = GROUP.into();
            }
        }
        for subject in list_mut(binding, "subjects") {
            let known = matches!(subject.text("kind"), "User" | "Group");
            if known && subject.text("apiGroup").is_empty() {
                subject["apiGroup"] = GROUP.into();
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, binding: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        self.validate(binding, &mut errors);
        declared::supersede(DECLARED, None, binding, &mut errors);
        errors
    }

    fn validate_update(&self, _context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        self.validate(new, &mut errors);
        immutable(old, new, "roleRef", &Path::empty(), &mut errors);
        declared::supersede(DECLARED, Some(old), new, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment_name(name)
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        match self.namespaced {
            true => columns::of("rbac.authorization.k8s.io/rolebindings"),
            false => columns::of("rbac.authorization.k8s.io/clusterrolebindings"),
        }
    }

    fn cells(&self, binding: &Value) -> Vec<Value> {
        let role = &binding["roleRef"];
        let of = |kind: &str| {
            let subjects = binding.list("subjects").iter();
            let shown: Vec<String> = subjects
                .filter(|subject| subject.text("kind") == kind)
                .map(|subject| match kind {
                    "ServiceAccount" => {
                        format!("{}/{}", subject.text("namespace"), subject.text("name"))
                    }
                    _ => subject.text("name").to_owned(),
                })
                .collect();
            Value::from(shown.join(", "))
        };
        vec![
            name(binding),
            format!("{}/{}", role.text("kind"), role.text("name")).into(),
            age(binding),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    }
}

/// What is declared of bindings.
const DECLARED: &[Rule] = &[
    Field("subjects", &[Optional(Filled), Each(NAMED)]),
    Field("roleRef", &[Unchanged, Field("name", &[Required(Filled)])]),
];
const NAMED: &[Rule] = &[Field("name", &[Required(Filled)])];

impl Binding {
    fn validate(&self, binding: &Value, errors: &mut Errors) {
        let (role, path) = (&binding["roleRef"], Path::root("roleRef"));
        if role.text("apiGroup") != GROUP {
            errors.unsupported(&path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
        }
        let kinds = ["Role", "ClusterRole"];
        let kinds = if self.namespaced { &kinds[..] } else { &kinds[1..] };
        let kind = role.text("kind");
        if !kinds.contains(&kind) {
            errors.unsupported(&path.child("kind"), kind, kinds);
        }
        match role.text("name") {
            "" => errors.required(&path.child("name"), ""),
            name => errors.messages(&path.child("name"), name, names::path_segment_name(name)),
        }
        for (at, subject) in binding.list("subjects").iter().enumerate() {
            self.subject(subject, &Path::root("subjects").index(at), errors);
        }
    }

    fn subject(&self, subject: &Value, path: &Path, errors: &mut Errors) {
        let (name, group) = (subject.text("name"), subject.text("apiGroup"));
        match subject.text("kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    dns_subdomain(name, &path.child("name"), errors);
                }
                if !group.is_empty() {
                    errors.unsupported(&path.child("apiGroup"), group, &[""]);
                }
                if !self.namespaced && subject.text("namespace").is_empty() {
                    errors.required(&path.child("namespace"), "");
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    errors.unsupported(&path.child("apiGroup"), group, &[GROUP]);
                }
            }
            other => {
                let kinds = ["ServiceAccount", "User", "Group"];
                errors.unsupported(&path.child("kind"), other, &kinds);
            }
        }
    }
}
