//! ResourceQuotas.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    resource_names,
    validation::{Errors, IMMUTABLE, Report as _, quantity, quantity_text, spec},
    value::Fields as _,
};

pub(crate) struct ResourceQuota;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

impl Hooks for ResourceQuota {
    fn validate_create(&self, _context: &Context<'_>, quota: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(&quota["spec"], &spec(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource == "status" {
            let path = Path::root("status");
            amounts(&new["status"], "hard", &path, &mut errors);
            amounts(&new["status"], "used", &path, &mut errors);
            return errors;
        }
        validate(&new["spec"], &spec(), &mut errors);
        let scopes = |quota: &Value| {
            let mut all: Vec<String> =
                quota["spec"].texts("scopes").map(ToOwned::to_owned).collect();
            all.sort();
            all.dedup();
            all
        };
        if scopes(old) != scopes(new) {
            let path = spec().child("scopes");
            errors.invalid(&path, new["spec"]["scopes"].clone(), IMMUTABLE);
        }
        errors
    }

    fn warnings(&self, old: Option<&Value>, quota: &Value) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let hard = &quota["spec"]["hard"];
        ["cpu", "memory", "storage", "ephemeral-storage"]
            .iter()
            .filter_map(|resource| {
                let mut named = format!("requests.{resource}");
                if !hard.has(&named) && matches!(*resource, "cpu" | "memory") {
                    (*resource).clone_into(&mut named);
                }
                let limit = format!("limits.{resource}");
                let (request, cap) = (hard.sub(&named)?, hard.sub(&limit)?);
                (quantity(request) > quantity(cap)).then(|| {
                    format!(
                        "ResourceQuota {named} ({}) should be less than {limit} ({})",
                        quantity_text(request),
                        quantity_text(cap)
                    )
                })
            })
            .collect()
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/resourcequotas")
    }

    fn cells(&self, quota: &Value) -> Vec<Value> {
        let status = &quota["status"];
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in status.entries("hard") {
            let used = quantity_text(&status["used"][resource]);
            let text = format!("{resource}: {used}/{}", quantity_text(hard));
            let list = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
            list.push(text);
        }
        vec![name(quota), requests.join(", ").into(), limits.join(", ").into(), age(quota)]
    }
}

fn amounts(object: &Value, list: &str, path: &Path, errors: &mut Errors) {
    for (resource, amount) in object.entries(list) {
        let path = path.child(list).key(resource);
        resource_names::of_quota(resource, &path, errors);
        resource_names::amount(resource, amount, &path, errors);
    }
}

fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    amounts(spec, "hard", path, errors);
    let scopes: Vec<&str> = spec.texts("scopes").collect();
    let place = path.child("scopes");
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(&place, spec["scopes"].clone(), "unsupported scope");
        }
        not_applicable(spec, scope, &place, "scopes", errors);
    }
    conflicting(&scopes, spec, &place, errors);
    let Some(selector) = spec.sub("scopeSelector") else { return };
    let place = path.child("scopeSelector").child("matchExpressions");
    let requirements = selector.list("matchExpressions");
    for requirement in requirements {
        let scope = requirement.text("scopeName");
        if !SCOPES.contains(&scope) {
            errors.invalid(&place.child("scopeName"), scope, "unsupported scope");
        }
        not_applicable(spec, scope, &place, "scopeSelector", errors);
        requirement_of(requirement, scope, &place, errors);
    }
    let scopes: Vec<&str> = requirements.iter().map(|r| r.text("scopeName")).collect();
    conflicting(&scopes, spec, &place, errors);
}

fn requirement_of(requirement: &Value, scope: &str, path: &Path, errors: &mut Errors) {
    let operator = requirement.text("operator");
    let values = requirement.list("values");
    let plain = !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
    if plain && SCOPES.contains(&scope) && operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                      ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                      ResourceQuotaScopeNotBestEffort or \
                      ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.invalid(&path.child("operator"), operator, detail);
    }
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail =
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.required(&path.child("values"), detail);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail =
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.invalid(&path.child("values"), requirement["values"].clone(), detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

/// Says for which resources of the quota the scope has no meaning.
fn not_applicable(spec: &Value, scope: &str, path: &Path, shown: &str, errors: &mut Errors) {
    for (resource, _) in spec.entries("hard") {
        if resource_names::is_standard_quota(resource) && !applies(scope, resource) {
            let detail = "unsupported scope applied to resource";
            errors.invalid(path, spec[shown].clone(), detail);
        }
    }
}

fn applies(scope: &str, resource: &str) -> bool {
    let compute = matches!(
        resource,
        "cpu"
            | "memory"
            | "limits.cpu"
            | "limits.memory"
            | "pods"
            | "requests.cpu"
            | "requests.memory"
    );
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => compute,
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

fn conflicting(scopes: &[&str], spec: &Value, path: &Path, errors: &mut Errors) {
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&one) && scopes.contains(&other) {
            errors.invalid(path, spec["scopes"].clone(), "conflicting scopes");
        }
    }
}
