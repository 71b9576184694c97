//! From a schema with rules to rules that can be evaluated.

use apimachinery::{
    field::{FieldError, Path},
    schema::go_json,
};
use cel::{Env, Program, Type};
use serde_json::Value;

use super::{
    field_path::{self, Step},
    shape::{self, Shape},
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
    /// Whether fields and values keep their names from one version of the object to the next.
    pub(super) correlates: bool,
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
    let mut found = Vec::new();
    Build { errors: &mut found }.node(schema, true, &Path::empty(), "selfType", None, 0).1
}

/// What is wrong with the rules of a schema.
pub(crate) fn errors(schema: &Value, path: &Path) -> Vec<FieldError> {
    let mut found = Vec::new();
    Build { errors: &mut found }.node(schema, true, path, "selfType", None, 0);
    found
}

struct Build<'e> {
    errors: &'e mut Vec<FieldError>,
}

impl Build<'_> {
    /// The type and the rules of a schema. `apart` is where the last list is whose items cannot be
    /// told apart.
    fn node(
        &mut self,
        schema: &Value,
        root: bool,
        path: &Path,
        name: &str,
        apart: Option<&Path>,
        depth: usize,
    ) -> (Option<Type>, Option<Rules>) {
        if depth > DEEPEST {
            return (None, None);
        }
        let kind = schema.text("type");
        let mut fields = Vec::new();
        let (mut items, mut values) = (None, None);
        let mut keys = None;
        let of = match kind {
            _ if schema.on("x-kubernetes-int-or-string") => shape::scalar(schema),
            "array" => {
                let below = path.child("items");
                let by_key = schema.text("x-kubernetes-list-type") == "map";
                if by_key {
                    let all = schema.texts("x-kubernetes-list-map-keys").map(ToOwned::to_owned);
                    keys = Some(all.collect::<Vec<_>>());
                }
                let apart = if by_key { apart } else { apart.or(Some(&below)) };
                let (of, rules) = match schema.sub("items") {
                    Some(inner) => {
                        let root = inner.on("x-kubernetes-embedded-resource");
                        let name = format!("{name}.@items");
                        self.node(inner, root, &below, &name, apart, depth + 1)
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
                    let (of, rules) = self.node(inner, root, &below, &name, apart, depth + 1);
                    values = rules.map(Box::new);
                    of.map(|of| Type::map(Type::String, of))
                }
                None => {
                    let all = schema.sub("properties").and_then(Value::as_object);
                    let all = all.into_iter().flatten();
                    let mut types = Vec::new();
                    for (field, inner) in all {
                        let below = path.child("properties").key(field);
                        let root = inner.on("x-kubernetes-embedded-resource");
                        let name = format!("{name}.{field}");
                        let (of, rules) = self.node(inner, root, &below, &name, apart, depth + 1);
                        types.push((field.as_str(), of));
                        fields.extend(rules.map(|rules| (field.clone(), rules)));
                    }
                    Some(Shape::object(name, types, root))
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
            here.push(self.rule(rule, schema, of, &path, apart));
        }
        let empty = here.is_empty() && fields.is_empty() && items.is_none() && values.is_none();
        let rules = (!empty).then(|| Rules {
            here,
            of: of.clone().unwrap_or(Type::Dyn),
            kind: kind.to_owned(),
            keys,
            correlates: schema.text("x-kubernetes-map-type") != "atomic",
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
        of: &Type,
        path: &Path,
        apart: Option<&Path>,
    ) -> Rule {
        let optional_old = rule.on("optionalOldSelf");
        let old = if optional_old { Type::optional(of.clone()) } else { of.clone() };
        let env = Env::new().with("self", of.clone()).with("oldSelf", old);
        let text = rule.text("rule");
        let program = program(&env, text, &Type::Bool, "");
        let computed = rule.opt_text("messageExpression").filter(|text| !text.trim().is_empty());
        let message_rule = computed.map(|it| program_of_message(&env, it));
        let shown = go_value(rule);
        if let Err(error) = &program
            && !text.trim().is_empty()
        {
            self.errors.push(FieldError::invalid_shown(&path.child("rule"), &shown, error));
        }
        if let Some(Err(error)) = &message_rule {
            let at = path.child("messageExpression");
            self.errors.push(FieldError::invalid_shown(&at, &shown, error));
        }
        let uses_old = program.as_ref().is_ok_and(|program| program.uses("oldSelf"));
        if uses_old && let Some(apart) = apart {
            let why = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {}",
                apart.as_str()
            );
            self.errors.push(FieldError::invalid(&path.child("rule"), text, &why));
        }
        if !uses_old && program.is_ok() && rule.has("optionalOldSelf") {
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
