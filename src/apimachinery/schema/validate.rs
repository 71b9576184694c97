//! Whether a custom resource's values are what its schema allows. Rules and wordings are those of
//! upstream's kube-openapi validator, because clients show and match them.
//!
//! On an update what was wrong before and has not changed is let pass (KEP-4008, ratcheting).

use serde_json::Value;

use super::{
    Schema, bounds, formats,
    graph::{BUILTIN, Graph, Kind, ListType, NONE, Node, NodeId, Validation, flag},
};
use crate::{
    field::{FieldError, Path},
    quote::go_quote,
};

impl Schema {
    /// Checks the values of a custom resource against its schema; `old` is the object that an
    /// update replaces. Nothing is found in objects of built-in kinds, whose validation is code.
    pub fn validate(&self, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut outcome = Outcome::default();
        if !self.graph().typed {
            let check = Check { graph: self.graph() };
            check.ratcheted(self.id(), value, old, &mut String::new(), &mut outcome);
        }
        outcome.errors
    }
}

/// Checks a value against the schema at a node; `path` is where the value stands.
pub(super) fn below(graph: &Graph, id: NodeId, value: &Value, path: &Path) -> Vec<FieldError> {
    let mut outcome = Outcome::default();
    Check { graph }.value(id, value, None, &mut String::new(), &mut outcome);
    let placed = |mut error: FieldError| {
        error.path = match error.path.as_str() {
            "" => path.clone(),
            inside => path.child(inside),
        };
        error
    };
    outcome.errors.into_iter().map(placed).collect()
}

/// What a check found, and how much of the schema fitted: of several alternatives that all fail,
/// the one that fitted best is reported.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) errors: Vec<FieldError>,
    pub(super) fits: usize,
}

impl Outcome {
    fn merge(&mut self, mut other: Outcome) {
        self.errors.append(&mut other.errors);
        self.fits += other.fits;
    }

    pub(super) fn invalid(&mut self, path: &str, value: impl Into<Value>, detail: &str) {
        self.errors.push(FieldError::invalid(&at(path), value, detail));
    }

    /// An error that upstream reports without a path of its own.
    pub(super) fn of_schema(&mut self, detail: &str) {
        self.errors.push(FieldError::invalid(&Path::empty(), "", detail));
    }
}

pub(super) fn at(path: &str) -> Path {
    if path.is_empty() { Path::empty() } else { Path::root(path) }
}

struct Check<'a> {
    graph: &'a Graph,
}

impl Check<'_> {
    /// Checks a value, and forgives it if it is what it was before.
    fn ratcheted(
        &self,
        id: NodeId,
        value: &Value,
        old: Option<&Value>,
        path: &mut String,
        out: &mut Outcome,
    ) {
        let mut outcome = Outcome::default();
        self.value(id, value, old, path, &mut outcome);
        if !outcome.errors.is_empty() && old == Some(value) {
            outcome.errors.clear();
        }
        out.merge(outcome);
    }

    fn value(
        &self,
        id: NodeId,
        value: &Value,
        old: Option<&Value>,
        path: &mut String,
        out: &mut Outcome,
    ) {
        if id == NONE || id & BUILTIN != 0 {
            return;
        }
        let graph = self.graph;
        let node = graph.node(id);
        let facets = graph.facets(node);
        let format = facets.and_then(|f| f.format.as_deref()).filter(|f| known(node.kind, f));
        self.kind(node, format, value, path, out);
        if let Some(facets) = facets
            && !facets.enum_values.is_empty()
            && (value.is_null() || !facets.enum_values.iter().any(|known| same(known, value)))
        {
            out.errors.push(unsupported(path, value, &facets.enum_values));
        }
        if value.is_null() {
            return;
        }
        let none = Validation::default();
        let rules = graph.validation(node).unwrap_or(&none);
        self.junctors(rules, value, old, path, out);
        // Every check that applies counts as one that fitted, as upstream counts them.
        out.fits += 3;
        match value {
            Value::String(text) => bounds::string(rules, format, text, path, out),
            Value::Number(_) => bounds::number(node, rules, format, value, path, out),
            Value::Array(list) => {
                for (i, item) in list.iter().enumerate() {
                    let old = old.and_then(|old| self.old_item(node, old, item));
                    let len = path.len();
                    path.push_str(&format!("[{i}]"));
                    let items = if node.kind == Kind::Map { NONE } else { node.child };
                    self.ratcheted(items, item, old, path, out);
                    path.truncate(len);
                }
                bounds::list_size(rules, list, path, out);
            }
            Value::Object(map) => {
                let count = map.len() as i64;
                if let Some(min) = rules.min_properties.filter(|min| count < *min) {
                    let detail = format!("{path} in body should have at least {min} properties");
                    out.invalid(path, count, &detail);
                }
                if let Some(max) = rules.max_properties.filter(|max| count > *max) {
                    out.errors.push(too_many(path, count, max));
                }
                for (key, value) in map {
                    let field = graph.field(node, key).map(|field| field.node);
                    let values = (node.kind == Kind::Map).then_some(node.child);
                    if let Some(id) = field.or(values) {
                        self.member(id, key, value, old, path, out);
                    }
                    if let Some(meta) = rules.object_meta
                        && let Some(field) = graph.field(graph.node(meta), key)
                    {
                        self.member(field.node, key, value, old, path, out);
                    }
                }
                for name in rules.required.iter().filter(|name| !map.contains_key(&***name)) {
                    let path = format!("{path}.{name}");
                    out.errors.push(FieldError::required(&at(path.trim_start_matches('.')), ""));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn member(
        &self,
        id: NodeId,
        key: &str,
        value: &Value,
        old: Option<&Value>,
        path: &mut String,
        out: &mut Outcome,
    ) {
        let own_type = path.is_empty() && matches!(key, "apiVersion" | "kind");
        let old = old.filter(|_| !own_type).and_then(|old| old.get(key));
        let len = path.len();
        if len > 0 {
            path.push('.');
        }
        path.push_str(key);
        self.ratcheted(id, value, old, path, out);
        path.truncate(len);
    }

    /// What an item of a list map was before.
    fn old_item<'v>(&self, node: &Node, old: &'v Value, item: &Value) -> Option<&'v Value> {
        if node.list_type != ListType::Map {
            return None;
        }
        let keys = &self.graph.facets(node)?.list_map_keys;
        let same = |old: &&Value| keys.iter().all(|key| old.get(&**key) == item.get(&**key));
        old.as_array()?.iter().find(same)
    }

    fn kind(
        &self,
        node: &Node,
        format: Option<&str>,
        value: &Value,
        path: &str,
        out: &mut Outcome,
    ) {
        let expected = type_name(node.kind);
        if expected.is_empty() {
            return;
        }
        out.fits += 1;
        let actual = match value {
            Value::Null if node.has(flag::NULLABLE) => return,
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            // A format says more of a string than its type does.
            Value::String(_) | Value::Array(_)
                if format.is_some() && !matches!(node.kind, Kind::Number | Kind::Integer) =>
            {
                return;
            }
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = expected.split(',').any(|expected| match expected {
            "number" => matches!(actual, "number" | "integer"),
            "integer" => actual == "integer" || actual == "number" && whole(value),
            expected => expected == actual,
        });
        // Of a number a format says more than its type as well.
        let (expected, actual) = match (format, value) {
            (Some(format), Value::Number(number)) if number.is_f64() => (format, "float64"),
            (Some(format), Value::Number(_)) => (format, "int64"),
            (Some(format), Value::Bool(_) | Value::Object(_)) => (format, ""),
            _ => (expected, actual),
        };
        if fits {
            out.fits += 1;
        } else {
            let detail = format!("{path} in body must be of type {expected}: {actual:?}");
            out.errors.push(FieldError::type_invalid(&at(path), actual, &detail));
        }
    }

    fn junctors(
        &self,
        rules: &Validation,
        value: &Value,
        old: Option<&Value>,
        path: &mut String,
        out: &mut Outcome,
    ) {
        let mut check = |id: NodeId| {
            let mut outcome = Outcome::default();
            self.value(id, value, old, path, &mut outcome);
            outcome.fits += 1;
            outcome
        };
        let mut failed = Vec::new();
        let mut found = Outcome::default();
        if !rules.any_of.is_empty() {
            let (fitting, best) = alternatives(rules.any_of.iter().map(|id| check(*id)), true);
            if fitting == 0 {
                failed.push("must validate at least one schema (anyOf)".to_owned());
            }
            found.merge(best);
        }
        if !rules.one_of.is_empty() {
            let (fitting, best) = alternatives(rules.one_of.iter().map(|id| check(*id)), false);
            match fitting {
                1 => {}
                0 => failed.push(
                    "must validate one and only one schema (oneOf). Found none valid".to_owned(),
                ),
                fitting => failed.push(format!(
                    "must validate one and only one schema (oneOf). Found {fitting} valid \
                     alternatives"
                )),
            }
            if fitting < 2 {
                found.merge(best);
            }
        }
        if !rules.all_of.is_empty() {
            let outcomes: Vec<_> = rules.all_of.iter().map(|id| check(*id)).collect();
            let fitting = outcomes.iter().filter(|outcome| outcome.errors.is_empty()).count();
            outcomes.into_iter().for_each(|outcome| found.merge(outcome));
            if fitting < rules.all_of.len() {
                let none = if fitting == 0 { ". None validated" } else { "" };
                failed.push(format!("must validate all the schemas (allOf){none}"));
            }
        }
        if rules.not.is_some_and(|not| check(not).errors.is_empty()) {
            failed.push("must not validate the schema (not)".to_owned());
        }
        for failure in failed {
            out.of_schema(&format!("{} {failure}", go_quote(path)));
        }
        out.merge(found);
    }
}

/// How many alternatives fit, and the outcome to report: that of the first that fits, else that
/// of the one that fits best.
fn alternatives(outcomes: impl Iterator<Item = Outcome>, first: bool) -> (usize, Outcome) {
    let mut fitting = 0;
    let mut best: Option<Outcome> = None;
    for outcome in outcomes {
        let fits = outcome.errors.is_empty();
        if fits {
            if fitting == 0 {
                best = Some(outcome);
            }
            fitting += 1;
            if first {
                break;
            }
        } else if fitting == 0 && best.as_ref().is_none_or(|best| outcome.fits > best.fits) {
            best = Some(outcome);
        }
    }
    (fitting, best.unwrap_or_default())
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Object | Kind::Map => "object",
        Kind::Array => "array",
        Kind::String => "string",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Boolean => "boolean",
        Kind::IntOrString => "integer,string",
        _ => "",
    }
}

/// Whether a format means anything for values of this kind; upstream ignores the others.
fn known(kind: Kind, format: &str) -> bool {
    match kind {
        Kind::String | Kind::Any | Kind::IntOrString => formats::known(format),
        Kind::Integer => matches!(format, "int32" | "int64"),
        Kind::Number => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

fn unsupported(path: &str, value: &Value, supported: &[Value]) -> FieldError {
    let mut error = FieldError::not_supported(&at(path), value.clone(), &[]);
    let supported = supported.iter().map(|value| match value {
        Value::String(text) => go_quote(text),
        other => go_quote(&other.to_string()),
    });
    let supported: Vec<String> = supported.collect();
    error.message.push_str(&format!(": supported values: {}", supported.join(", ")));
    error
}

pub(super) fn too_many(path: &str, actual: i64, limit: i64) -> FieldError {
    let count = |n: i64| usize::try_from(n).unwrap_or_default();
    FieldError::too_many(&at(path), count(actual), count(limit))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::from_crd;

    fn errors(schema: Value, value: Value) -> Vec<String> {
        let schema = from_crd(&json!({"type": "object", "properties": {"spec": schema}})).unwrap();
        schema.validate(&json!({"spec": value}), None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_errors_like_upstream() {
        let object = |properties: Value| json!({"type": "object", "properties": properties});
        for (schema, value, expected) in [
            (
                json!({"type": "integer"}),
                json!("a"),
                r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "string"}),
                json!(null),
                r#"spec: Invalid value: "null": spec in body must be of type string: "null""#,
            ),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!(5),
                r#"spec: Invalid value: "int64": spec in body must be of type ipv4: "int64""#,
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                r#"spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean""#,
            ),
            (
                json!({"type": "integer", "minimum": 1}),
                json!(0),
                "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
            ),
            (
                json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
                json!(1.5),
                "spec: Invalid value: 1.5: spec in body should be less than 1.5",
            ),
            (
                json!({"type": "integer", "multipleOf": 3}),
                json!(4),
                "spec: Invalid value: 4: spec in body should be a multiple of 3",
            ),
            (
                json!({"type": "string", "maxLength": 2}),
                json!("abc"),
                "spec: Too long: may not be more than 2 bytes",
            ),
            (
                json!({"type": "string", "minLength": 2}),
                json!("a"),
                r#"spec: Invalid value: "a": spec in body should be at least 2 chars long"#,
            ),
            (
                json!({"type": "string", "pattern": "^b+$"}),
                json!("a"),
                r#"spec: Invalid value: "a": spec in body should match '^b+$'"#,
            ),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!("a"),
                r#"spec: Invalid value: "a": spec in body must be of type ipv4: "a""#,
            ),
            (
                json!({"type": "string", "enum": ["b", "a"]}),
                json!("c"),
                r#"spec: Unsupported value: "c": supported values: "b", "a""#,
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
                json!(["a", "b"]),
                "spec: Too many: 2: must have at most 1 item",
            ),
            (
                object(json!({"a": {"type": "array", "items": {"type": "integer"}}})),
                json!({"a": [1, "b"]}),
                r#"spec.a[1]: Invalid value: "string": spec.a[1] in body must be of type integer: "string""#,
            ),
        ] {
            assert_eq!(errors(schema, value), [expected]);
        }
        let mut required = object(json!({}));
        required["required"] = json!(["a"]);
        assert_eq!(errors(required, json!({})), ["spec.a: Required value"]);
        assert_eq!(errors(json!({"type": "string", "nullable": true}), json!(null)), [""; 0]);
        assert_eq!(errors(json!({"type": "number"}), json!(1)), [""; 0]);
    }

    #[test]
    fn joins_schemas() {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        });
        assert_eq!(errors(schema.clone(), json!({"a": ""})), [""; 0]);
        assert_eq!(
            errors(schema.clone(), json!({})),
            [
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.a: Required value",
            ]
        );
        assert_eq!(
            errors(schema, json!({"a": "", "b": ""})),
            [
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
            ]
        );
        let not = json!({"type": "string", "not": {"enum": ["a"]}});
        assert_eq!(
            errors(not, json!("a")),
            [r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#]
        );
        let int_or_string = json!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        });
        assert_eq!(errors(int_or_string, json!("a")), [""; 0]);
    }

    #[test]
    fn lets_pass_what_was_wrong_before() {
        let schema = from_crd(&json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {
                "a": {"type": "string", "maxLength": 1},
                "l": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "required": ["k"], "properties": {
                        "k": {"type": "string"},
                        "v": {"type": "integer", "minimum": 5},
                    }},
                },
            },
        }}}))
        .unwrap();
        let old = json!({"spec": {"a": "long", "l": [{"k": "x", "v": 1}]}});
        let new = json!({"spec": {"a": "long", "l": [{"k": "y", "v": 1}, {"k": "x", "v": 1}]}});
        let errors = |old| {
            let errors = schema.validate(&new, old);
            errors.iter().map(|error| error.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(errors(None), ["spec.a", "spec.l[0].v", "spec.l[1].v"]);
        assert_eq!(errors(Some(&old)), ["spec.l[0].v"]);
    }

    #[test]
    fn restricts_names() {
        let schema = from_crd(&json!({"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 1}}},
        }}))
        .unwrap();
        let errors = schema.validate(&json!({"metadata": {"name": "abc"}}), None);
        assert_eq!(errors[0].path.as_str(), "metadata.name");
    }
}
