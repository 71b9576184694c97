//! Objects as they arrive: text or a value made of a patch, to a value that holds only what its
//! schema knows, in canonical form.
//!
//! Built-in kinds are read as Go reads them into structs: a value of another type is an error,
//! unknown fields are dropped, and what Go would not write is not there. Custom resources keep any
//! JSON in the fields that their schema names; their values are checked later, by validation.

use serde_json::Value;

use super::{
    Schema,
    graph::{Graph, Kind, NodeId, field},
    json_schema,
    leaf::{self, Token},
    prune,
    text::{MAX_DEPTH, Malformed, Reader},
    trail::{Findings, Mismatch, Step, Trail},
};

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, without what its schema does not know.
    pub value: Value,
    /// What strict field validation objects to, such as `unknown field "spec.a"` or
    /// `duplicate field "spec.b"`, in upstream's order.
    pub strict: Vec<String>,
}

impl Decoded {
    /// The error of `fieldValidation=Strict`, if there is one:
    /// `strict decoding error: unknown field "spec.a", duplicate field "spec.b"`.
    pub fn strict_error(&self) -> Option<String> {
        (!self.strict.is_empty())
            .then(|| format!("strict decoding error: {}", self.strict.join(", ")))
    }
}

/// Why bytes are not an object of a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is not JSON. The wording is Go's: `invalid character '}' looking for beginning
    /// of value`.
    #[error("{0}")]
    Malformed(String),
    /// A value has another type than its field. The wording is Go's: `json: cannot unmarshal
    /// string into Go struct field DeploymentSpec.spec.replicas of type int32`.
    #[error("{0}")]
    Type(String),
}

impl From<Malformed> for DecodeError {
    fn from(Malformed(text): Malformed) -> Self {
        DecodeError::Malformed(text)
    }
}

/// Reads free JSON. Only duplicate fields are objected to; the last one counts.
pub fn decode_json(text: &[u8]) -> Result<Decoded, DecodeError> {
    let mut reader = Reader::new(text);
    let value = reader.document(None)?;
    finish(value, reader.findings)
}

fn finish(value: Value, findings: Findings) -> Result<Decoded, DecodeError> {
    match findings.error {
        Some(error) => Err(DecodeError::Type(error)),
        None => Ok(Decoded { value, strict: findings.strict }),
    }
}

impl Schema {
    /// Reads an object of this kind from JSON text: [`Schema::conform`] and the reading in one.
    pub fn decode_json(&self, text: &[u8]) -> Result<Decoded, DecodeError> {
        let mut reader = Reader::new(text);
        if self.graph().typed {
            let value = reader.document(Some((self.graph(), self.id())))?;
            return finish(value, reader.findings);
        }
        let mut value = reader.document(None)?;
        if reader.findings.error.is_none() {
            prune::custom(self.graph(), self.id(), &mut value, &mut reader.findings);
        }
        finish(value, reader.findings)
    }

    /// Makes a value an object of this kind: drops what the schema does not know and returns it
    /// in the words of strict field validation, checks types, and makes values canonical.
    ///
    /// For a built-in kind the result is what a round trip through Go's types gives: nulls and
    /// empty `omitempty` values are gone, fields without `omitempty` are there, quantities and
    /// times are rewritten. For a custom resource that holds of `metadata` only; nulls that its
    /// schema does not allow are dropped.
    pub fn conform(&self, value: &mut Value) -> Result<Vec<String>, DecodeError> {
        let mut findings = Findings::default();
        if self.graph().typed {
            Conform { graph: self.graph(), findings: &mut findings }.value(
                self.id(),
                value,
                &Trail::ROOT,
                0,
            );
        } else {
            prune::custom(self.graph(), self.id(), value, &mut findings);
        }
        match findings.error {
            Some(error) => Err(DecodeError::Type(error)),
            None => Ok(findings.strict),
        }
    }
}

/// A walk over a value of a built-in type.
pub(super) struct Conform<'a> {
    pub(super) graph: &'a Graph,
    pub(super) findings: &'a mut Findings,
}

impl Conform<'_> {
    /// Makes a value canonical. Null stays null: its owner knows what that means.
    pub(super) fn value(&mut self, id: NodeId, value: &mut Value, trail: &Trail<'_>, depth: usize) {
        let node = self.graph.node(id);
        if depth > MAX_DEPTH {
            let why = Mismatch::Message("exceeded max depth".to_owned());
            self.findings.mismatch(self.graph, id, trail, why);
            return;
        }
        if json_schema::is_one(node) {
            return json_schema::conform(self, id, value, trail, depth);
        }
        let token = match (node.kind, &mut *value) {
            (_, Value::Null)
            | (Kind::String | Kind::IntOrString, Value::String(_))
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::RawExtension | Kind::FieldsV1 | Kind::Any, _) => return,
            (Kind::Object, Value::Object(_)) => return self.object(id, value, trail, depth),
            (Kind::Map, Value::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    self.value(node.child, value, &trail.then(Step::Key(key)), depth + 1);
                    if value.is_null() {
                        *value = leaf::zero(self.graph, node.child);
                    }
                }
                return;
            }
            (Kind::Array, Value::Array(list)) => {
                for (at, value) in list.iter_mut().enumerate() {
                    self.value(node.child, value, &trail.then(Step::Index(at)), depth + 1);
                    if value.is_null() {
                        *value = leaf::zero(self.graph, node.child);
                    }
                }
                return;
            }
            (_, Value::String(text)) => leaf::read(node, Token::Text(std::mem::take(text))),
            (_, Value::Number(number)) => leaf::read(node, Token::Number(&number.to_string())),
            (_, Value::Bool(value)) => leaf::read(node, Token::Bool(*value)),
            (_, Value::Array(_)) => leaf::read(node, Token::Array),
            (_, Value::Object(_)) => leaf::read(node, Token::Object),
        };
        *value = token.unwrap_or_else(|why| {
            self.findings.mismatch(self.graph, id, trail, why);
            Value::Null
        });
    }

    fn object(&mut self, id: NodeId, value: &mut Value, trail: &Trail<'_>, depth: usize) {
        let Value::Object(map) = value else { return };
        let graph = self.graph;
        let node = graph.node(id);
        let fields = graph.fields(node);
        let mut set = 0u128;
        let mut dropped = Vec::new();
        // Keys are sorted, as fields are: the next field is mostly the one after the last.
        let mut next = 0;
        for (key, value) in map.iter_mut() {
            let position = match fields.get(next) {
                Some(field) if graph.name(field) == key => Some(next),
                _ => graph.position(node, key),
            };
            let Some(at) = position else {
                self.findings.unknown(trail, key);
                dropped.push(key.clone());
                continue;
            };
            next = at + 1;
            let field = &fields[at];
            let step = Step::Field(id, graph.name(field));
            self.value(field.node, value, &trail.then(step), depth + 1);
            if value.is_null() || leaf::omitted(graph, field, value) {
                dropped.push(key.clone());
            } else {
                set |= 1 << at;
            }
        }
        for key in dropped {
            map.remove(&key);
        }
        for (at, field) in fields.iter().enumerate() {
            if field.has(field::ALWAYS_WRITTEN)
                && set & (1 << at) == 0
                && let Some(value) = leaf::absent(graph, field)
            {
                map.insert(graph.name(field).to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        resource::split_api_version,
        schema::{builtin, from_crd},
    };

    /// Whether everything that `ours` says is also in `theirs`.
    fn part_of(ours: &Value, theirs: &Value) -> bool {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                ours.iter().all(|(key, ours)| theirs.get(key).is_some_and(|t| part_of(ours, t)))
            }
            (Value::Array(ours), Value::Array(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(o, t)| part_of(o, t))
            }
            _ => stored_alike(ours, theirs),
        }
    }

    /// Whether two values are the same to protobuf, in which upstream stores them: an empty list
    /// is none, and so are no bytes.
    fn stored_alike(ours: &Value, theirs: &Value) -> bool {
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                let alike = |(key, ours)| theirs.get(key).is_some_and(|t| stored_alike(ours, t));
                ours.len() == theirs.len() && ours.iter().all(alike)
            }
            (Value::Array(ours), Value::Array(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs).all(|(o, t)| stored_alike(o, t))
            }
            (Value::Null, Value::Array(theirs)) => theirs.is_empty(),
            (Value::String(ours), Value::Null) => ours.is_empty(),
            _ => ours == theirs,
        }
    }

    /// The answers are those of Kubernetes v1.37's own packages (embedded/schema/generate/oracle).
    #[test]
    fn decodes_like_upstream() {
        let cases = include_str!("testdata/cases.jsonl").lines();
        let answers = include_str!("testdata/answers.jsonl").lines();
        assert_eq!(cases.clone().count(), answers.clone().count());
        for (case, answer) in cases.zip(answers) {
            let answer: Value = serde_json::from_str(answer).unwrap();
            let object: Value = serde_json::from_str(case).unwrap();
            let (group, version) = split_api_version(object["apiVersion"].as_str().unwrap());
            let schema = builtin(group, version, object["kind"].as_str().unwrap()).unwrap();
            let decoded = match schema.decode_json(case.as_bytes()) {
                Ok(decoded) => decoded,
                Err(error) => {
                    assert_eq!(json!({"error": error.to_string()}), answer, "{case}");
                    let mut value = object;
                    let error = schema.conform(&mut value).unwrap_err();
                    assert_eq!(answer["error"], error.to_string(), "{case}");
                    continue;
                }
            };
            assert_eq!(
                json!(decoded.strict),
                *answer.get("strict").unwrap_or(&json!([])),
                "{case}"
            );
            let theirs = &answer["value"];
            assert!(stored_alike(&decoded.value, theirs), "{case}\n  {} {theirs}", decoded.value);
            let mut again = decoded.value.clone();
            assert_eq!(schema.conform(&mut again), Ok(vec![]), "{case}");
            assert_eq!(again, decoded.value, "canonical values stay as they are");

            let mut defaulted = decoded.value;
            schema.default_values(&mut defaulted);
            // Upstream also sets what depends on other fields.
            let theirs = answer.get("defaulted").unwrap_or(&answer["value"]);
            assert!(part_of(&defaulted, theirs), "{case}\n  ours   {defaulted}\n  theirs {theirs}");
        }
    }

    #[test]
    fn words_malformed_text_like_go() {
        for (text, error) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            (r#"{"a" 1"#, "invalid character '1' after object key"),
            (r#"{"a":1 2"#, "invalid character '2' after object key:value pair"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("tru ", "invalid character ' ' in literal true (expecting 'e')"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u00g0""#, "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
        ] {
            let expected = Err(DecodeError::Malformed(error.to_owned()));
            assert_eq!(decode_json(text.as_bytes()), expected, "{text}");
        }
        let deep = "[".repeat(100_000);
        let expected = Err(DecodeError::Malformed("exceeded max depth".to_owned()));
        assert_eq!(decode_json(deep.as_bytes()), expected);
    }

    #[test]
    fn reads_free_json_as_go_does() {
        let text = br#"{"i":1,"f":1.0,"e":1e3,"g":1.5,"s":"\ud83d\ude00\ud83d","i":2,"l":[{"x":1,"x":2}]}"#;
        let decoded = decode_json(text).unwrap();
        assert_eq!(
            decoded.value,
            json!({"i": 2, "f": 1, "e": 1000, "g": 1.5, "s": "😀\u{fffd}", "l": [{"x": 2}]})
        );
        assert_eq!(decoded.strict, [r#"duplicate field "i""#, r#"duplicate field "l[0].x""#]);
    }

    #[test]
    fn prunes_custom_resources() {
        let schema = from_crd(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "nullable": {"type": "string", "nullable": true},
                "defaulted": {"type": "string", "default": "x"},
                "kept": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"inner": {"type": "object", "properties": {}}}},
                "map": {"type": "object", "additionalProperties": {
                    "type": "object", "properties": {"v": {"type": "integer"}}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "properties": {"spec": {"type": "object"}}},
            }},
        }}))
        .unwrap();
        let text = br#"{
            "apiVersion": "g/v1", "kind": "A", "top": 1,
            "metadata": {"name": "a", "creationTimestamp": null, "unknownMeta": 1, "labels": {}},
            "spec": {
                "z": 1, "a": null, "nullable": null, "defaulted": null, "a": null,
                "kept": {"x": {"y": 1}, "inner": {"gone": 1}},
                "map": {"k": {"v": 1, "w": 2}},
                "template": {"apiVersion": "v1", "kind": "Pod", "other": 1,
                    "metadata": {"name": "b", "foo": 1}, "spec": {"gone": 1}}
            }
        }"#;
        let mut decoded = schema.decode_json(text).unwrap();
        assert_eq!(
            decoded.strict,
            [
                r#"duplicate field "spec.a""#,
                r#"unknown field "metadata.unknownMeta""#,
                r#"unknown field "spec.kept.inner.gone""#,
                r#"unknown field "spec.map.k.w""#,
                r#"unknown field "spec.template.other""#,
                r#"unknown field "spec.template.spec.gone""#,
                r#"unknown field "spec.z""#,
                r#"unknown field "top""#,
                r#"unknown field "spec.template.metadata.foo""#,
            ]
        );
        schema.default_values(&mut decoded.value);
        assert_eq!(
            decoded.value,
            json!({
                "apiVersion": "g/v1", "kind": "A", "metadata": {"name": "a"},
                "spec": {
                    "nullable": null, "defaulted": "x",
                    "kept": {"x": {"y": 1}, "inner": {}},
                    "map": {"k": {"v": 1}},
                    "template": {"apiVersion": "v1", "kind": "Pod",
                        "metadata": {"name": "b"}, "spec": {}},
                },
            })
        );
        let wrong = schema.decode_json(br#"{"metadata": {"labels": {"a": 1}}}"#).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"
        );
    }

    #[test]
    fn defaults_only_where_the_parent_is() {
        let schema = from_crd(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "object", "properties": {"b": {"type": "integer", "default": 1}}},
                "c": {"type": "object", "default": {}, "properties": {
                    "d": {"type": "string", "default": "x"}}},
                "l": {"type": "array", "items": {"type": "object", "properties": {
                    "e": {"type": "boolean", "default": true}}}},
            }},
        }}))
        .unwrap();
        let mut value = json!({"spec": {"l": [{}, {"e": false}]}});
        schema.default_values(&mut value);
        let expected = json!({"spec": {"c": {"d": "x"}, "l": [{"e": true}, {"e": false}]}});
        assert_eq!(value, expected);
        let mut none = json!({});
        schema.default_values(&mut none);
        assert_eq!(none, json!({}));
    }
}
