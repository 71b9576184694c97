//! ValidatingAdmissionPolicyBindings and MutatingAdmissionPolicyBindings.

use apimachinery::{field::FieldError, names::name_is_dns_subdomain};
use serde_json::Value;

use super::match_resources;
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, spec},
    value::Fields as _,
};

/// The binding of a policy of one sort.
pub(crate) struct Binding {
    mutating: bool,
}

pub(crate) static MUTATING: Binding = Binding { mutating: true };
pub(crate) static VALIDATING: Binding = Binding { mutating: false };

impl Hooks for Binding {
    fn default(&self, binding: &mut Value) {
        if let Some(matching) = binding.pointer_mut("/spec/matchResources")
            && matching.is_object()
        {
            match_resources::default(matching);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, binding: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (path, spec) = (spec(), &binding["spec"]);
        let policy = spec.text("policyName");
        match policy {
            "" => errors.required(&path.child("policyName"), ""),
            _ => {
                let wrong = name_is_dns_subdomain(policy, false);
                errors.messages(&path.child("policyName"), policy, wrong);
            }
        }
        if let Some(reference) = spec.sub("paramRef") {
            match_resources::param_ref(reference, &path.child("paramRef"), &mut errors);
        }
        if let Some(matching) = spec.sub("matchResources") {
            let path = path.child("matchResources");
            match_resources::validate(matching, &path, &mut errors);
            if self.mutating {
                match_resources::only_mutable(matching, &path, &mut errors);
            }
        }
        if !self.mutating {
            actions(spec, &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        self.validate_create(context, new)
    }

    fn columns(&self) -> &'static [Column] {
        match self.mutating {
            true => columns::of("admissionregistration.k8s.io/mutatingadmissionpolicybindings"),
            false => columns::of("admissionregistration.k8s.io/validatingadmissionpolicybindings"),
        }
    }

    fn cells(&self, binding: &Value) -> Vec<Value> {
        let spec = &binding["spec"];
        let parameters = spec.sub("paramRef").and_then(|reference| {
            let (namespace, name) = (reference.text("namespace"), reference.text("name"));
            match (namespace, name) {
                (_, "") => reference.sub("selector").map(ToString::to_string),
                // Whether it has a namespace cannot be told from here.
                ("", name) => Some(format!("*/{name}")),
                (namespace, name) => Some(format!("{namespace}/{name}")),
            }
        });
        vec![
            name(binding),
            spec.text("policyName").into(),
            parameters.unwrap_or_else(|| "<unset>".to_owned()).into(),
            age(binding),
        ]
    }
}

/// What is done where a policy is not kept to.
fn actions(spec: &Value, errors: &mut Errors) {
    const KNOWN: [&str; 3] = ["Audit", "Deny", "Warn"];
    let path = crate::kinds::validation::spec().child("validationActions");
    let all: Vec<&str> = spec.texts("validationActions").collect();
    for (at, action) in all.iter().enumerate() {
        if !KNOWN.contains(action) {
            errors.unsupported(&path.index(at), *action, &KNOWN);
        }
        if all[..at].contains(action) {
            errors.duplicate(&path.index(at), *action);
        }
    }
    if all.contains(&"Deny") && all.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(&path, spec["validationActions"].clone(), why);
    }
    if all.is_empty() {
        errors.required(&path, "");
    }
}
