//! FlowSchemas.

use apimachinery::{field::FieldError, schema::internal};
use serde_json::Value;

use super::{conditions, policy_rules};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, dns_subdomain, spec},
    value::Fields as _,
};

pub(crate) struct FlowSchema;

impl Hooks for FlowSchema {
    fn validate_create(&self, _context: &Context<'_>, schema: &Value) -> Vec<FieldError> {
        const LAST: i64 = 10_000;
        let mut errors = Errors::new();
        let (inner, path) = (&schema["spec"], spec());
        let precedence = inner.int("matchingPrecedence").unwrap_or_default();
        let place = path.child("matchingPrecedence");
        if precedence <= 0 {
            errors.invalid(&place, precedence, "must be a positive value");
        }
        if precedence > LAST {
            let detail = format!("must not be greater than {LAST}");
            errors.invalid(&place, precedence, &detail);
        }
        if precedence == 1 && schema["metadata"].text("name") != "exempt" {
            let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
            errors.invalid(&place, precedence, detail);
        }
        if let Some(method) = inner.sub("distinguisherMethod") {
            let kind = method.text("type");
            if !matches!(kind, "ByNamespace" | "ByUser") {
                let path = path.child("distinguisherMethod").child("type");
                let shown = internal::show("flowcontrol.FlowDistinguisherMethod", method);
                let methods = ["ByNamespace", "ByUser"];
                errors.push(FieldError::not_supported_shown(&path, &shown, &methods));
            }
        }
        let place = path.child("priorityLevelConfiguration").child("name");
        match inner["priorityLevelConfiguration"].text("name") {
            "" => errors.required(&place, "must reference a priority level"),
            name => dns_subdomain(name, &place, &mut errors),
        }
        policy_rules::validate(inner, &path, &mut errors);
        conditions(schema, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, _old: &Value, new: &Value) -> Vec<FieldError> {
        match context.subresource {
            "" => self.validate_create(context, new),
            _ => {
                let mut errors = Errors::new();
                conditions(new, &mut errors);
                errors
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("flowcontrol.apiserver.k8s.io/flowschemas")
    }

    fn cells(&self, schema: &Value) -> Vec<Value> {
        let spec = &schema["spec"];
        let mut conditions = schema["status"].list("conditions").iter();
        let dangling = conditions.find(|condition| condition.text("type") == "Dangling");
        vec![
            name(schema),
            spec["priorityLevelConfiguration"].text("name").into(),
            spec.int("matchingPrecedence").unwrap_or_default().into(),
            spec["distinguisherMethod"].opt_text("type").unwrap_or("<none>").into(),
            age(schema),
            dangling.map_or("?", |condition| condition.text("status")).into(),
        ]
    }
}
