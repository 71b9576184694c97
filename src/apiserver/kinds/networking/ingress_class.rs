//! IngressClasses.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::ingress::object_reference;
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age},
    validation::{Errors, Report as _, dns_label, domain_prefixed_path, immutable, spec},
    value::{Fields as _, set_default},
};

pub(crate) struct IngressClass;

const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const LONGEST: usize = 250;

impl Hooks for IngressClass {
    fn default(&self, class: &mut Value) {
        if let Some(parameters) = class.pointer_mut("/spec/parameters").filter(|p| p.is_object()) {
            set_default(parameters, "scope", "Cluster");
        }
    }

    fn validate_create(&self, _context: &Context<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = spec().child("controller");
        let controller = class["spec"].text("controller");
        if controller.len() > LONGEST {
            errors.push(FieldError::too_long(&path, LONGEST));
        }
        domain_prefixed_path(controller, &path, &mut errors);
        if let Some(parameters) = class["spec"].sub("parameters") {
            parameters_of(parameters, &spec().child("parameters"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        immutable(&old["spec"], &new["spec"], "controller", &spec(), &mut errors);
        errors.extend(self.validate_create(context, new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("networking.k8s.io/ingressclasses")
    }

    fn cells(&self, class: &Value) -> Vec<Value> {
        let mut shown = class["metadata"].text("name").to_owned();
        if class["metadata"]["annotations"].text(DEFAULT) == "true" {
            shown.push_str(" (default)");
        }
        let parameters = class["spec"].sub("parameters").map(|parameters| {
            let group = parameters.opt_text("apiGroup").map(|group| format!(".{group}"));
            format!(
                "{}{}/{}",
                parameters.text("kind"),
                group.unwrap_or_default(),
                parameters.text("name")
            )
        });
        vec![
            shown.into(),
            class["spec"].text("controller").into(),
            parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
            age(class),
        ]
    }
}

fn parameters_of(parameters: &Value, path: &Path, errors: &mut Errors) {
    object_reference(parameters, path, errors);
    let place = path.child("namespace");
    match parameters.opt_text("scope") {
        None => errors.required(&path.child("scope"), ""),
        Some("Namespace") => match parameters.opt_text("namespace") {
            None => errors.required(&place, "`parameters.scope` is set to 'Namespace'"),
            Some(namespace) => dns_label(namespace, &place, errors),
        },
        Some("Cluster") => {
            if parameters.has("namespace") {
                errors.forbidden(&place, "`parameters.scope` is set to 'Cluster'");
            }
        }
        Some(other) => {
            errors.unsupported(&path.child("scope"), other, &["Cluster", "Namespace"]);
        }
    }
}
