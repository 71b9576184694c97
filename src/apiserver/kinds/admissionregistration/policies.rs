//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use cel::{Env, Type};
use serde_json::Value;

use super::{match_resources, mutations};
use crate::{
    expressions::{Scope, compile, conditions, environment, variables::Variables},
    kinds::{
        Column, Context, Hooks,
        columns::{self, age, name},
        validation::{self, Errors, Report as _, given_one_of, optional_one_of},
        value::{Fields as _, same, set_default},
    },
};

/// Most audit annotations.
const MOST_ANNOTATIONS: usize = 20;
/// Longest expression of one.
const LONGEST_ANNOTATION: usize = 5 * 1024;

/// A policy of one sort.
pub(crate) struct Policy {
    mutating: bool,
}

pub(crate) static MUTATING: Policy = Policy { mutating: true };
pub(crate) static VALIDATING: Policy = Policy { mutating: false };

impl Hooks for Policy {
    fn default(&self, policy: &mut Value) {
        let Some(spec) = policy.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        set_default(spec, "failurePolicy", "Fail");
        if let Some(matching) = spec.get_mut("matchConstraints").filter(|it| it.is_object()) {
            match_resources::default(matching);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, policy: &Value) -> Vec<FieldError> {
        self.check(policy, true)
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        if context.subresource == "status" {
            return status(new);
        }
        // Conditions that were taken once are taken again, unless they might mean something else.
        let part = |of: &Value| of["spec"]["matchConditions"].clone();
        let kind = |of: &Value| of["spec"].has("paramKind");
        self.check(new, kind(old) != kind(new) || !same(&part(old), &part(new)))
    }

    fn columns(&self) -> &'static [Column] {
        match self.mutating {
            true => columns::of("admissionregistration.k8s.io/mutatingadmissionpolicies"),
            false => columns::of("admissionregistration.k8s.io/validatingadmissionpolicies"),
        }
    }

    fn cells(&self, policy: &Value) -> Vec<Value> {
        let spec = &policy["spec"];
        let rules = if self.mutating { "mutations" } else { "validations" };
        let kind = spec
            .sub("paramKind")
            .map(|kind| format!("{}/{}", kind.text("apiVersion"), kind.text("kind")));
        vec![
            name(policy),
            spec.list(rules).len().into(),
            kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
            age(policy),
        ]
    }
}

impl Policy {
    fn check(&self, policy: &Value, with_conditions: bool) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (validation::spec(), &policy["spec"]);
        given_one_of(spec, "failurePolicy", &path, &["Fail", "Ignore"], &mut errors);
        if let Some(kind) = spec.sub("paramKind") {
            match_resources::param_kind(kind, &path.child("paramKind"), &mut errors);
        }
        self.constraints(spec, &path.child("matchConstraints"), &mut errors);
        let scope = Scope { params: spec.has("paramKind"), authorizer: true };
        if with_conditions {
            conditions::validate(spec, scope, &path, &mut errors);
        }
        let variables = Variables::compile(spec, scope);
        for (at, variable) in spec.list("variables").iter().enumerate() {
            let error = variables.error(at);
            variable_of(variable, error, &path.child("variables").index(at), &mut errors);
        }
        let expressions = Expressions { scope, variables: &variables };
        if self.mutating {
            mutations::validate(spec, &expressions.env(true), &path, &mut errors);
        } else {
            let name = policy["metadata"].text("name");
            validations(spec, name, &expressions, &path, &mut errors);
        }
        errors
    }

    fn constraints(&self, spec: &Value, path: &Path, errors: &mut Errors) {
        let Some(matching) = spec.sub("matchConstraints") else {
            return errors.required(path, "");
        };
        match_resources::validate(matching, path, errors);
        if matching.list("resourceRules").is_empty() {
            errors.required(&path.child("resourceRules"), "");
        }
        if self.mutating {
            match_resources::only_mutable(matching, path, errors);
        }
    }
}

/// What a policy's expressions may use.
struct Expressions<'a> {
    scope: Scope,
    variables: &'a Variables,
}

impl Expressions<'_> {
    fn env(&self, authorizer: bool) -> Env {
        self.variables.declare(environment(Scope { authorizer, ..self.scope }))
    }
}

fn variable_of(variable: &Value, error: Option<&str>, path: &Path, errors: &mut Errors) {
    let name = variable.text("name");
    if name.trim().is_empty() {
        errors.required(&path.child("name"), "name is not specified");
    } else if !cel::is_identifier(name) {
        errors.invalid(&path.child("name"), name, "must be a valid CEL identifier");
    }
    let expression = variable.text("expression");
    if expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    } else if let Some(error) = error {
        errors.invalid(&path.child("expression"), expression, error);
    }
}

fn validations(
    spec: &Value,
    name: &str,
    expressions: &Expressions<'_>,
    path: &Path,
    errors: &mut Errors,
) {
    let (all, annotations) = (spec.list("validations"), spec.list("auditAnnotations"));
    if all.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), why);
        errors.required(&path.child("auditAnnotations"), why);
        return;
    }
    let env = expressions.env(true);
    let messages = expressions.env(false);
    for (at, validation) in all.iter().enumerate() {
        let path = path.child("validations").index(at);
        validation_of(validation, &env, &messages, &path, errors);
    }
    let path = path.child("auditAnnotations");
    if annotations.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.invalid(&path, spec["auditAnnotations"].clone(), &why);
    }
    for (at, annotation) in annotations.iter().enumerate() {
        let path = path.index(at);
        annotation_of(annotation, name, &env, &path, errors);
        let key = annotation.text("key");
        if annotations[..at].iter().any(|other| other.text("key") == key) {
            errors.duplicate(&path.child("key"), key);
        }
    }
}

fn validation_of(of: &Value, env: &Env, messages: &Env, path: &Path, errors: &mut Errors) {
    let expression = of.text("expression");
    if expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    } else if let Err(error) = compile(env, expression, &[Type::Bool]) {
        errors.invalid(&path.child("expression"), expression, &error);
    }
    let expression = of.text("messageExpression");
    let at = path.child("messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        errors.invalid(&at, expression, "must be non-empty if specified");
    } else if !expression.is_empty()
        && let Err(error) = compile(messages, expression, &[Type::String])
    {
        errors.invalid(&at, expression, &error);
    }
    let message = of.text("message");
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&path.child("message"), message, "must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&path.child("message"), message, "must not contain line breaks");
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    optional_one_of(of, "reason", path, &reasons, errors);
}

fn annotation_of(of: &Value, name: &str, env: &Env, path: &Path, errors: &mut Errors) {
    let key = of.text("key");
    if name.is_empty() {
        errors.invalid(&path.child("key"), key, "requires metadata.name be non-empty");
    } else {
        let whole = format!("{name}/{key}");
        errors.messages(&path.child("key"), &whole, names::qualified_name(&whole));
    }
    let text = of.text("valueExpression");
    let expression = text.trim();
    let path = path.child("valueExpression");
    if expression.is_empty() {
        errors.required(&path, "valueExpression is not specified");
    } else if expression.len() > LONGEST_ANNOTATION {
        let why = format!("must not exceed {LONGEST_ANNOTATION} bytes in length");
        errors.required(&path, &why);
    } else if let Err(error) = compile(env, expression, &[Type::String, Type::Null]) {
        errors.invalid(&path, text, &error);
    }
}

fn status(policy: &Value) -> Errors {
    let mut errors = Errors::new();
    let (path, status) = (Path::root("status"), &policy["status"]);
    let warnings = path.child("typeChecking").child("expressionWarnings");
    for (at, warning) in status["typeChecking"].list("expressionWarnings").iter().enumerate() {
        for field in ["warning", "fieldRef"] {
            if warning.text(field).trim().is_empty() {
                errors.required(&warnings.index(at).child(field), "");
            }
        }
    }
    validation::conditions(status, &path, &mut errors);
    errors
}
