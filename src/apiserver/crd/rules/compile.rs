//! From a schema with rules to rules that can be evaluated.

use apimachinery::{
    field::{FieldError, Path},
    schema::go_json,
};
use cel::{Env, Program, Type};
use serde_json::Value;

use super::{
    budget::Budget,
    field_path::{self, Step},
    shape::{self, Known},
};
use crate::kinds::value::Fields as _;

/// Deepest schema; definitions that are deeper are refused elsewhere.
const DEEPEST: usize = 128;

/// The rules of a schema and of what is below it.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(super) here: Vec<Rule>,
    /// The type of the value, for expressions.
    pub(super) of: Type,
    /// Its type in the schema's words.
    pub(super) kind: String,
    /// The fields that tell items of a list apart; none where they cannot be told apart.
    pub(super) keys: Option<Vec<String>>,
    pub(super) fields: Vec<(String, Rules)>,
    pub(super) items: Option<Box<Rules>>,
    pub(super) values: Option<Box<Rules>>,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) rule: String,
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) path: Vec<Step>,
    pub(super) program: Result<Program, String>,
    pub(super) message_rule: Option<Result<Program, String>>,
    pub(super) uses_old: bool,
    pub(super) optional_old: bool,
}

/// Compiles the rules of a schema; none where it has none.
pub(crate) fn compile(schema: &Value) -> Option<Rules> {
    Build::default().node(schema, true, &Path::empty(), "selfType", Around::default(), 0).1
}

/// What is wrong with the rules of a schema. `old`: it is that of before.
pub(crate) fn errors(schema: &Value, path: &Path, old: bool) -> Vec<FieldError> {
    let mut build = Build::default();
    build.budget.lenient = old;
    build.node(schema, true, path, "selfType", Around::default(), 0);
    build.budget.finish(path, &mut build.errors);
    build.errors
}

#[derive(Default)]
struct Build {
    errors: Vec<FieldError>,
    budget: Budget,
}

/// What is around a schema.
#[derive(Clone, Copy)]
struct Around<'p> {
    /// Where the outermost list is whose items cannot be told apart.
    apart: Option<&'p Path>,
    /// How many values an object has of the schema at most, where that is bounded.
    often: Option<u64>,
}

impl Default for Around<'_> {
    fn default() -> Self {
        Around { apart: None, often: Some(1) }
    }
}

impl Build {
    /// What expressions know of a schema, and its rules.
    fn node(
        &mut self,
        schema: &Value,
        root: bool,
        path: &Path,
        name: &str,
        around: Around<'_>,
        depth: usize,
    ) -> (Option<Known>, Option<Rules>) {
        if depth > DEEPEST {
            return (None, None);
        }
        let kind = schema.text("type");
        let mut fields = Vec::new();
        let (mut items, mut values) = (None, None);
        let mut keys = None;
        let often = around.often.zip(repeated(schema)).map(|(one, more)| one.saturating_mul(more));
        let around_below = Around { often, ..around };
        let of = match kind {
            _ if schema.on("x-kubernetes-int-or-string") => shape::scalar(schema),
            "array" => {
                let below = path.child("items");
                let by_key = schema.text("x-kubernetes-list-type") == "map";
                if by_key {
                    let all = schema.texts("x-kubernetes-list-map-keys").map(ToOwned::to_owned);
                    keys = Some(all.collect::<Vec<_>>());
                }
                let around = match by_key {
                    true => around_below,
                    false => Around { apart: around.apart.or(Some(path)), ..around_below },
                };
                let (of, rules) = match schema.sub("items") {
                    Some(inner) => {
                        let root = inner.on("x-kubernetes-embedded-resource");
                        let name = format!("{name}.@items");
                        self.node(inner, root, &below, &name, around, depth + 1)
                    }
                    None => (None, None),
                };
                items = rules.map(Box::new);
                of.map(|of| shape::list(schema, of))
            }
            "object" => match schema.sub("additionalProperties").filter(|it| it.is_object()) {
                Some(inner) => {
                    let below = path.child("additionalProperties");
                    let root = inner.on("x-kubernetes-embedded-resource");
                    let name = format!("{name}.@values");
                    let (of, rules) =
                        self.node(inner, root, &below, &name, around_below, depth + 1);
                    values = rules.map(Box::new);
                    of.map(|of| shape::map(schema, of))
                }
                None => {
                    let all = schema.sub("properties").and_then(Value::as_object);
                    let all = all.into_iter().flatten();
                    let mut types = Vec::new();
                    for (field, inner) in all {
                        let below = path.child("properties").key(field);
                        let root = inner.on("x-kubernetes-embedded-resource");
                        let name = format!("{name}.{field}");
                        let (of, rules) =
                            self.node(inner, root, &below, &name, around_below, depth + 1);
                        types.push((field.as_str(), of));
                        fields.extend(rules.map(|rules| (field.clone(), rules)));
                    }
                    Some(shape::object(name, schema, types, root))
                }
            },
            _ => shape::scalar(schema),
        };
        let mut here = Vec::new();
        for (at, rule) in schema.list("x-kubernetes-validations").iter().enumerate() {
            let path = path.child("x-kubernetes-validations").index(at);
            let Some(of) = &of else {
                self.errors.push(FieldError::required(&path, "the type of the value is not known"));
                continue;
            };
            here.push(self.rule(rule, schema, of, &path, around));
        }
        let empty = here.is_empty() && fields.is_empty() && items.is_none() && values.is_none();
        let rules = (!empty).then(|| Rules {
            here,
            of: of.as_ref().map_or(Type::Dyn, |known| known.of.clone()),
            kind: kind.to_owned(),
            keys,
            fields,
            items,
            values,
        });
        (of, rules)
    }

    fn rule(
        &mut self,
        rule: &Value,
        schema: &Value,
        known: &Known,
        path: &Path,
        around: Around<'_>,
    ) -> Rule {
        let of = &known.of;
        let optional_old = rule.on("optionalOldSelf");
        let old = if optional_old { Type::optional(of.clone()) } else { of.clone() };
        let env = Env::new().with("self", of.clone()).with("oldSelf", old);
        let text = rule.text("rule");
        let program = program(&env, text, &Type::Bool, "");
        let computed = rule.opt_text("messageExpression").filter(|text| !text.trim().is_empty());
        let computed = computed.filter(|_| program.is_ok());
        let message_rule = computed.map(|it| program_of_message(&env, it));
        let shown = go_value(rule);
        match &program {
            Ok(program) => {
                let often = around.often.unwrap_or(known.most());
                let cost = program.most(&known.bounds).saturating_mul(often);
                let wrong = self.budget.spend(&path.child("rule"), "estimated rule cost", cost);
                self.errors.extend(wrong);
            }
            Err(error) if !text.trim().is_empty() => {
                self.errors.push(FieldError::invalid_shown(&path.child("rule"), &shown, error));
            }
            Err(_) => {}
        }
        let at = path.child("messageExpression");
        match &message_rule {
            Some(Ok(program)) => {
                let cost = program.most(&known.bounds);
                let wrong = self.budget.spend(&at, "estimated messageExpression cost", cost);
                self.errors.extend(wrong);
            }
            Some(Err(error)) => self.errors.push(FieldError::invalid_shown(&at, &shown, error)),
            None => {}
        }
        let uses_old = program.as_ref().is_ok_and(|program| program.uses("oldSelf"));
        if uses_old && let Some(apart) = around.apart {
            let why = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {}",
                apart.as_str()
            );
            self.errors.push(FieldError::invalid(&path.child("rule"), text, &why));
        }
        if !uses_old && !text.trim().is_empty() && rule.has("optionalOldSelf") {
            let why = "may not be set if oldSelf is not used in rule";
            let at = path.child("optionalOldSelf");
            self.errors.push(FieldError::invalid(&at, optional_old, why));
        }
        let field = rule.text("fieldPath");
        let steps = field_path::parse(field, schema);
        if steps.is_none() && !field.trim().is_empty() {
            let why = "must be a valid path";
            self.errors.push(FieldError::invalid(&path.child("fieldPath"), field, why));
        }
        Rule {
            rule: text.trim().to_owned(),
            message: rule.text("message").trim().to_owned(),
            reason: rule.text("reason").to_owned(),
            path: steps.unwrap_or_default(),
            program,
            message_rule,
            uses_old,
            optional_old,
        }
    }
}

/// How many values below a schema one of its own has at most; none where that has no bound.
fn repeated(schema: &Value) -> Option<u64> {
    match schema.text("type") {
        "object" if schema.has("additionalProperties") => shape::count(schema, "maxProperties"),
        "array" => shape::count(schema, "maxItems"),
        _ => Some(1),
    }
}

fn program(env: &Env, text: &str, gives: &Type, what: &str) -> Result<Program, String> {
    let program =
        env.compile(text).map_err(|issues| format!("{what}compilation failed: {issues}"))?;
    if program.result() == gives {
        return Ok(program);
    }
    Err(match gives {
        Type::Bool => "cel expression must evaluate to a bool".into(),
        _ => "messageExpression must evaluate to a string".into(),
    })
}

fn program_of_message(env: &Env, text: &str) -> Result<Program, String> {
    program(env, text, &Type::String, "messageExpression ")
}

/// A rule as upstream shows it.
fn go_value(rule: &Value) -> String {
    let text = |field: &str| go_json(&Value::from(rule.text(field)));
    let pointer = |field: &str| go_json(rule.sub(field).unwrap_or(&Value::Null));
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\
         \"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        pointer("reason"),
        text("fieldPath"),
        pointer("optionalOldSelf"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The costs are those that Kubernetes v1.37's API server told when it refused these rules.
    #[test]
    fn rules_cost_what_upstream_estimates() {
        let schema: Value = serde_json::from_str(include_str!("testdata/costs.json")).unwrap();
        let mut build = Build::default();
        let known = build.node(&schema, false, &Path::empty(), "T", Around::default(), 0).0;
        let known = known.unwrap();
        let env = Env::new().with("self", known.of.clone());
        for line in include_str!("testdata/costs.txt").lines() {
            let (cost, rule) = line.split_once(' ').unwrap();
            let most = env.compile(rule).unwrap().most(&known.bounds);
            assert_eq!(most, cost.parse::<u64>().unwrap(), "{rule}");
        }
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        let told = |most: Value, old: bool| {
            let item = json!({"type": "string", "maxLength": 10,
                "x-kubernetes-validations": [{"rule": "self == 'abc'"}]});
            let list = json!({"type": "array", "maxItems": most, "items": item});
            let schema = json!({"type": "object", "properties": {"l": list}});
            let all = errors(&schema, &Path::root("s"), old);
            all.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(told(json!(5_000_000), false), "");
        let refused = told(json!(5_500_000), false);
        assert!(refused.contains("estimated rule cost exceeds budget by factor of 1.100000x (try"));
        assert!(told(json!(20_000_000), false).contains("by factor of 4.0x (try"));
        assert_eq!(told(Value::Null, false), "", "a request has no more items than fit into it");
        assert_eq!(told(json!(5_500_000), true), "", "what was there before stays");
        let all = told(json!(100_000_000), true);
        assert!(all.contains("total for entire OpenAPIv3 schema exceeds budget by factor of 2.0x"));
    }
}
