//! Match conditions of webhooks and policies.

use apimachinery::field::{FieldError, Path};
use cel::{Program, Type, Value};
use serde_json::Value as Json;

use super::{
    Scope, compile, environment,
    input::{Budget, CONDITIONS_BUDGET, Input, Spent, evaluate},
};
use crate::kinds::{
    validation::{Errors, Report as _, label_name},
    value::Fields as _,
};

/// Most conditions.
const MOST: usize = 64;

/// Conditions that are ready to be evaluated.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    all: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    expression: String,
    program: Result<Program, String>,
}

/// Whether the conditions hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They do.
    Match,
    /// One does not, or failed and may be ignored.
    Skip,
    /// One failed: why.
    Failed(String),
}

impl Conditions {
    /// Compiles the `matchConditions` of a webhook or a policy.
    pub(crate) fn compile(of: &Json, scope: Scope) -> Self {
        let conditions = of.list("matchConditions");
        if conditions.is_empty() {
            return Self::default();
        }
        let env = environment(scope);
        let all = conditions.iter().map(|condition| {
            let expression = condition.text("expression").trim().to_owned();
            let program = compile(&env, &expression, &[Type::Bool]);
            Condition { expression, program }
        });
        Self { all: all.collect() }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Evaluates the conditions: one that does not hold decides, whatever failed.
    pub(crate) fn test(&self, input: &Input<'_>, ignore: bool) -> Verdict {
        let variables = input.variables();
        let budget = Budget::new(CONDITIONS_BUDGET);
        let mut errors: Vec<String> = Vec::new();
        for condition in &self.all {
            let outcome = match &condition.program {
                Ok(program) => evaluate(program, &condition.expression, &variables, &budget),
                Err(error) => Ok(Err(format!("compilation error: {error}"))),
            };
            match outcome {
                Ok(Ok(Value::Bool(false))) => return Verdict::Skip,
                Ok(Ok(_)) => {}
                Ok(Err(error)) if errors.contains(&error) => {}
                Ok(Err(error)) => errors.push(error),
                Err(Spent) if ignore => return Verdict::Skip,
                Err(Spent) => return Verdict::Failed(Spent::MESSAGE.into()),
            }
        }
        match errors.as_slice() {
            [] => Verdict::Match,
            _ if ignore => Verdict::Skip,
            [one] => Verdict::Failed(one.clone()),
            several => Verdict::Failed(format!("[{}]", several.join(", "))),
        }
    }
}

/// Checks conditions that are written.
pub(crate) fn validate(of: &Json, scope: Scope, path: &Path, errors: &mut Errors) {
    let path = path.child("matchConditions");
    let all = of.list("matchConditions");
    if all.len() > MOST {
        errors.push(FieldError::too_many(&path, all.len(), MOST));
    }
    if all.is_empty() {
        return;
    }
    let env = environment(scope);
    for (at, condition) in all.iter().enumerate() {
        let path = path.index(at);
        let expression = condition.text("expression").trim();
        if expression.is_empty() {
            errors.required(&path.child("expression"), "");
        } else if let Err(error) = compile(&env, expression, &[Type::Bool]) {
            errors.invalid(&path.child("expression"), expression, &error);
        }
        let name = condition.text("name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
            continue;
        }
        label_name(name, &path.child("name"), errors);
        if all[..at].iter().any(|other| other.text("name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
}
