//! The evaluation of rules on an object and what it replaces.

use apimachinery::field::{FieldError, Path};
use cel::{EvalError, Program, Value as CelValue, Variable};
use serde_json::Value;

use super::{
    compile::{Rule, Rules},
    field_path,
};
use crate::expressions::input::{Budget, POLICY_BUDGET, Spent};

/// Longest message that an expression makes.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// What is wrong with an object by its rules; `old` is what it replaces.
pub(crate) fn validate(rules: &Rules, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut run = Run { budget: Budget::new(POLICY_BUDGET), errors: Vec::new() };
    // When all is spent, that has been said, and nothing more is looked at.
    let _ = run.node(rules, object, old, false, &Path::empty());
    run.errors
}

struct Run {
    budget: Budget,
    errors: Vec<FieldError>,
}

impl Run {
    /// `same` says that something around is what it was before: what is wrong in there was wrong
    /// already.
    fn node(
        &mut self,
        rules: &Rules,
        value: &Value,
        old: Option<&Value>,
        same: bool,
        path: &Path,
    ) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        let same = same || old == Some(value);
        self.here(rules, value, old, same, path)?;
        match value {
            Value::Object(map) => {
                let before = |name: &str| old.and_then(|old| old.get(name));
                for (name, rules) in &rules.fields {
                    if let Some(value) = map.get(name) {
                        self.node(rules, value, before(name), same, &path.child(name))?;
                    }
                }
                if let Some(rules) = &rules.values {
                    for (key, value) in map {
                        self.node(rules, value, before(key), same, &path.key(key))?;
                    }
                }
            }
            Value::Array(items) => {
                let Some(inner) = &rules.items else { return Ok(()) };
                let before = old.and_then(Value::as_array);
                for (at, item) in items.iter().enumerate() {
                    let before = before.and_then(|all| {
                        let keys = rules.keys.as_ref()?;
                        all.iter().find(|it| keys.iter().all(|key| it.get(key) == item.get(key)))
                    });
                    self.node(inner, item, before, same, &path.index(at))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn here(
        &mut self,
        rules: &Rules,
        value: &Value,
        old: Option<&Value>,
        same: bool,
        path: &Path,
    ) -> Result<(), Spent> {
        if rules.here.is_empty() {
            return Ok(());
        }
        let this = match CelValue::of_json(value, &rules.of) {
            Ok(this) => this,
            Err(error) => {
                self.invalid(rules, path, &error.to_string());
                return Ok(());
            }
        };
        let before = old.and_then(|old| CelValue::of_json(old, &rules.of).ok());
        for rule in &rules.here {
            if rule.uses_old && before.is_none() && !rule.optional_old {
                continue;
            }
            // Nothing new can be wrong with what has not changed.
            if same && !rule.uses_old {
                continue;
            }
            let mut variables: Vec<Variable<'_>> = vec![("self", this.clone())];
            match (&before, rule.optional_old) {
                (Some(before), true) => {
                    variables.push(("oldSelf", CelValue::some(before.clone())));
                }
                (None, true) => variables.push(("oldSelf", CelValue::none())),
                (Some(before), false) => variables.push(("oldSelf", before.clone())),
                (None, false) => {}
            }
            self.rule(rules, rule, value, &variables, path)?;
        }
        Ok(())
    }

    fn invalid(&mut self, rules: &Rules, path: &Path, why: &str) {
        self.errors.push(FieldError::invalid(path, rules.kind.as_str(), why));
    }

    fn spent(&mut self, rules: &Rules, path: &Path, why: &str) -> Spent {
        self.invalid(rules, path, why);
        Spent
    }

    fn rule<'a>(
        &mut self,
        rules: &Rules,
        rule: &'a Rule,
        value: &Value,
        variables: &[Variable<'a>],
        path: &Path,
    ) -> Result<(), Spent> {
        if rule.rule.is_empty() {
            return Ok(());
        }
        let program = match &rule.program {
            Ok(program) => program,
            Err(error) => {
                self.invalid(rules, path, &format!("rule compile error: {error}"));
                return Ok(());
            }
        };
        let shown = if rule.message.is_empty() { &rule.rule } else { &rule.message };
        let evaluated = program.eval(variables);
        if matches!(evaluated.outcome, Err(EvalError::Cost)) {
            let why = format!(
                "'{}': no further validation rules will be run due to call cost exceeds limit for \
                 rule: {shown}",
                EvalError::Cost
            );
            return Err(self.spent(rules, path, &why));
        }
        if self.budget.spend(evaluated.cost).is_err() {
            return Err(self.spent(rules, path, Spent::MESSAGE));
        }
        match evaluated.outcome {
            Ok(CelValue::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                let error = error.to_string();
                let why = match error.starts_with("no such overload") {
                    true => format!(
                        "'{error}': call arguments did not match a supported operator, function \
                         or macro signature for rule: {shown}"
                    ),
                    false => format!("{error} evaluating rule: {shown}"),
                };
                self.invalid(rules, path, &why);
                return Ok(());
            }
        }
        let detail = match &rule.message_rule {
            Some(Ok(program)) => self.message(rules, program, variables, path)?,
            _ => None,
        };
        let detail = detail.unwrap_or_else(|| match rule.message.as_str() {
            "" => format!("failed rule: {}", rule.rule),
            message => message.to_owned(),
        });
        let path = field_path::below(path, &rule.path);
        let whole = matches!(rules.kind.as_str(), "object" | "array");
        self.errors.push(match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(&path, &detail),
            "FieldValueRequired" => FieldError::required(&path, &detail),
            "FieldValueDuplicate" if !whole => FieldError::duplicate(&path, value.clone()),
            "FieldValueDuplicate" => FieldError::duplicate_without_value(&path),
            _ if whole => FieldError::invalid_without_value(&path, &detail),
            _ => FieldError::invalid(&path, value.clone(), &detail),
        });
        Ok(())
    }

    /// The message that an expression makes, where it makes one.
    fn message<'a>(
        &mut self,
        rules: &Rules,
        program: &'a Program,
        variables: &[Variable<'a>],
        path: &Path,
    ) -> Result<Option<String>, Spent> {
        let evaluated = program.eval(variables);
        if self.budget.spend(evaluated.cost).is_err() {
            let why = "messageExpression evaluation failed due to running out of cost budget, no \
                       further validation rules will be run";
            return Err(self.spent(rules, path, why));
        }
        let Ok(CelValue::String(text)) = evaluated.outcome else { return Ok(None) };
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
        Ok(fits.then(|| text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::rules::{compile, errors};

    fn schema(rules: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "x-kubernetes-validations": rules,
            "properties": {
                "min": {"type": "integer"},
                "max": {"type": "integer"},
                "name": {"type": "string", "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "is immutable"}]},
                "list": {"type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {
                        "k": {"type": "string"}, "v": {"type": "integer",
                            "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}}},
                "when": {"type": "string", "format": "date-time"},
            },
        }}})
    }

    fn judged(rules: Value, spec: Value, old: Option<Value>) -> Vec<String> {
        let rules = compile(&schema(rules)).unwrap();
        let old = old.map(|spec| json!({"spec": spec}));
        let all = validate(&rules, &json!({"spec": spec}), old.as_ref());
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_evaluated_with_reason_message_and_path() {
        let rule = json!([{"rule": "self.min <= self.max", "messageExpression":
            "'min is ' + string(self.min)", "fieldPath": ".min", "reason": "FieldValueForbidden"}]);
        assert!(judged(rule.clone(), json!({"min": 1, "max": 2}), None).is_empty());
        let wrong = judged(rule.clone(), json!({"min": 3, "max": 2}), None);
        assert_eq!(wrong, ["spec.min: Forbidden: min is 3"]);
        // What was wrong before and has not changed is nobody's fault now.
        let old = json!({"min": 3, "max": 2});
        assert!(judged(rule, old.clone(), Some(old)).is_empty());
        let rule = json!([{"rule": "self.max > 0"}]);
        let missing = judged(rule, json!({}), None);
        assert_eq!(
            missing,
            ["spec: Invalid value: \"object\": no such key: max evaluating rule: self.max > 0"]
        );
    }

    #[test]
    fn transitions_see_what_was_before() {
        let name = |name: &str| json!({"name": name});
        assert!(judged(json!([]), name("a"), None).is_empty());
        assert!(judged(json!([]), name("a"), Some(name("a"))).is_empty());
        let wrong = judged(json!([]), name("b"), Some(name("a")));
        assert_eq!(wrong, ["spec.name: Invalid value: \"b\": is immutable"]);
        let list = |v: i32| json!({"list": [{"k": "x", "v": v}]});
        let wrong = judged(json!([]), list(1), Some(list(2)));
        assert_eq!(wrong, ["spec.list[0].v: Invalid value: 1: failed rule: self >= oldSelf"]);
        let first =
            json!([{"rule": "oldSelf.hasValue() || self.min == 0", "optionalOldSelf": true}]);
        assert_eq!(judged(first.clone(), json!({"min": 1}), None).len(), 1);
        assert!(judged(first, json!({"min": 1}), Some(json!({"min": 0}))).is_empty());
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let found = |rule: Value| {
            let all = errors(&schema(json!([rule])), &Path::root("s"), false);
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(found(json!({"rule": "self.when > timestamp('2020-01-01T00:00:00Z')"})), "");
        assert!(found(json!({"rule": "self.z > 0"})).contains("undefined field 'z'"));
        assert!(found(json!({"rule": "self.min"})).contains("must evaluate to a bool"));
        assert!(found(json!({"rule": "self = 42"})).contains("Syntax error"));
        let message = json!({"rule": "true", "messageExpression": "self.min"});
        assert!(found(message).contains("messageExpression must evaluate to a string"));
        let path = json!({"rule": "true", "fieldPath": ".nope"});
        assert!(found(path).contains("must be a valid path"));
        let old = json!({"rule": "true", "optionalOldSelf": true});
        assert!(found(old).contains("may not be set if oldSelf is not used in rule"));
    }
}
