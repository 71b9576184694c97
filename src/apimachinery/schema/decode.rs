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
