//! Single values as Go reads and writes them: what a JSON value becomes in a field of a Go type,
//! what Go writes for a field that is not set, and which values it leaves out.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Number, Value};

use super::{
    graph::{Field, Graph, Kind, Node, NodeId, Wire, field},
    trail::Mismatch,
};
use crate::{quantity, time};

/// A JSON value that is not null, in a place that expects a single value.
pub(crate) enum Token<'a> {
    Text(String),
    /// The literal as written.
    Number(&'a str),
    Bool(bool),
    Array,
    Object,
}

impl Token<'_> {
    /// How Go's messages call it.
    fn name(&self) -> String {
        match self {
            Token::Text(_) => "string",
            Token::Number(_) => "number",
            Token::Bool(_) => "bool",
            Token::Array => "array",
            Token::Object => "object",
        }
        .to_owned()
    }
}

/// What a token becomes in a value of this kind, in canonical form.
pub(crate) fn read(node: &Node, token: Token<'_>) -> Result<Value, Mismatch> {
    match (node.kind, token) {
        (Kind::String, Token::Text(text)) => Ok(Value::String(text)),
        (Kind::Boolean, Token::Bool(value)) => Ok(Value::Bool(value)),
        (Kind::Integer, Token::Number(literal)) => integer(node, literal),
        (Kind::Number, Token::Number(literal)) => {
            number(literal).ok_or_else(|| Mismatch::Kind(format!("number {literal}")))
        }
        (Kind::Bytes, Token::Text(text)) => bytes(text),
        (Kind::IntOrString, Token::Text(text)) => Ok(Value::String(text)),
        (Kind::IntOrString, Token::Number(literal)) => match literal.parse::<i32>() {
            Ok(value) => Ok(value.into()),
            Err(_) => Err(Mismatch::Inner(format!("number {literal}"), "int32")),
        },
        (Kind::IntOrString, other) => Err(Mismatch::Inner(other.name(), "int32")),
        (Kind::Quantity, token) => canonical_quantity(token),
        (Kind::Time | Kind::MicroTime | Kind::Duration, token) => instant(node.kind, token),
        (Kind::RawExtension | Kind::FieldsV1 | Kind::Any, token) => Ok(free(token)),
        (_, other) => Err(Mismatch::Kind(other.name())),
    }
}

fn integer(node: &Node, literal: &str) -> Result<Value, Mismatch> {
    let value = match node.wire {
        Wire::Int32 => literal.parse::<i32>().map(i64::from),
        _ => literal.parse::<i64>(),
    };
    value.map(Value::from).map_err(|_| Mismatch::Kind(format!("number {literal}")))
}

/// A number as Go keeps it in free JSON: whole where it is, else a float.
pub(crate) fn number(literal: &str) -> Option<Value> {
    if let Ok(value) = literal.parse::<i64>() {
        return Some(value.into());
    }
    let value = literal.parse::<f64>().ok().filter(|value| value.is_finite())?;
    // Go writes a whole float without point or exponent, and would read it back as an integer.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Some((value as i64).into());
    }
    Number::from_f64(value).map(Value::Number)
}

fn bytes(text: String) -> Result<Value, Mismatch> {
    // Go ignores line breaks inside base64.
    let text = if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], "") } else { text };
    match BASE64_STANDARD.decode(&text) {
        Ok(_) => Ok(Value::String(text)),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) => at,
                base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.trim_end_matches('=').len() / 4 * 4,
            };
            Err(Mismatch::Text(format!("illegal base64 data at input byte {at}")))
        }
    }
}

fn canonical_quantity(token: Token<'_>) -> Result<Value, Mismatch> {
    let text = match token {
        Token::Text(text) => text,
        Token::Number(literal) => literal.to_owned(),
        // Go hands the JSON itself to the parser of quantities.
        Token::Bool(_) | Token::Array | Token::Object => String::from("{}"),
    };
    match quantity::canonical(text.trim()) {
        Ok(canonical) if canonical == text => Ok(Value::String(text)),
        Ok(canonical) => Ok(Value::String(canonical.into_owned())),
        Err(error) => Err(Mismatch::Message(error.to_string())),
    }
}

fn instant(kind: Kind, token: Token<'_>) -> Result<Value, Mismatch> {
    let Token::Text(text) = token else { return Err(Mismatch::Inner(token.name(), "string")) };
    // `2026-01-02T03:04:05Z` is what a time of this length in this zone is rewritten to.
    if kind == Kind::Time && text.len() == 20 && text.ends_with('Z') && !text.starts_with("0001") {
        return match time::parse_seconds(&text) {
            Ok(_) => Ok(Value::String(text)),
            Err(error) => Err(Mismatch::Message(error.to_string())),
        };
    }
    let canonical = match kind {
        Kind::Time => time::canonical_seconds(&text),
        Kind::MicroTime => time::canonical_micros(&text),
        _ => time::parse_duration(&text).map(|nanos| Some(time::format_duration(nanos))),
    };
    match canonical {
        Ok(text) => Ok(text.map_or(Value::Null, Value::String)),
        Err(error) => Err(Mismatch::Message(error.to_string())),
    }
}

/// Free JSON; lists and objects are read elsewhere.
fn free(token: Token<'_>) -> Value {
    match token {
        Token::Text(text) => Value::String(text),
        Token::Number(literal) => number(literal).unwrap_or(Value::Null),
        Token::Bool(value) => Value::Bool(value),
        Token::Array => Value::Array(Vec::new()),
        Token::Object => Value::Object(Map::new()),
    }
}

/// What Go writes for a field that is not set; None where it leaves the field out.
pub(crate) fn absent(graph: &Graph, field: &Field) -> Option<Value> {
    if !field.has(field::ALWAYS_WRITTEN) {
        return None;
    }
    Some(if field.has(field::POINTER) { Value::Null } else { zero(graph, field.node) })
}

/// What Go writes for the zero value of a type.
pub(crate) fn zero(graph: &Graph, node: NodeId) -> Value {
    let node = graph.node(node);
    match node.kind {
        Kind::Object => {
            let mut object = Map::new();
            for field in graph.fields(node) {
                if let Some(value) = absent(graph, field) {
                    object.insert(graph.name(field).to_owned(), value);
                }
            }
            Value::Object(object)
        }
        Kind::String => Value::String(String::new()),
        Kind::Integer | Kind::Number | Kind::IntOrString => 0.into(),
        Kind::Boolean => false.into(),
        Kind::Quantity => "0".into(),
        Kind::Duration => "0s".into(),
        _ => Value::Null,
    }
}

/// Whether Go leaves out a field that has this value.
pub(crate) fn omitted(graph: &Graph, field: &Field, value: &Value) -> bool {
    if value.is_null() {
        return !field.has(field::ALWAYS_WRITTEN);
    }
    if field.has(field::ALWAYS_WRITTEN | field::POINTER) {
        return false;
    }
    match value {
        Value::String(text) => text.is_empty() && graph.node(field.node).kind != Kind::IntOrString,
        Value::Array(list) => list.is_empty() && field.has(field::OMIT_EMPTY),
        Value::Object(map) => map.is_empty() && graph.node(field.node).kind == Kind::Map,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Null => true,
    }
}

/// Whether a field is a string, number or boolean that is always there.
pub(crate) fn is_scalar(graph: &Graph, field: &Field) -> bool {
    let kind = graph.node(field.node).kind;
    matches!(kind, Kind::String | Kind::Integer | Kind::Number | Kind::Boolean)
        && !field.has(field::POINTER)
}

/// Whether a scalar that is always there says nothing.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        _ => false,
    }
}
