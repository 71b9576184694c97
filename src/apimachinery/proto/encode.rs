//! Values to protobuf messages.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::{
    ProtoError,
    wire::{self, bytes, fixed64, varint},
};
use crate::{
    schema::{
        Kind,
        graph::{Graph, NodeId, Wire, field},
        json_schema,
    },
    time,
};

/// Writes the message of a struct.
pub(super) fn message(
    graph: &Graph,
    id: NodeId,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), ProtoError> {
    match value {
        Value::Object(map) => object(graph, id, map, out),
        _ => Ok(()),
    }
}

/// Writes the fields of a struct.
pub(super) fn object(
    graph: &Graph,
    id: NodeId,
    map: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), ProtoError> {
    let node = graph.node(id);
    let mut inlines = false;
    for (name, value) in map {
        let Some(field) = graph.field(node, name) else { continue };
        inlines |= field.has(field::INLINED);
        if field.number == 0 || value.is_null() {
            continue;
        }
        let target = graph.node(field.node);
        match (target.kind, value) {
            (Kind::Array, Value::Array(list)) if target.wire != Wire::WrappedList => {
                for item in list {
                    write(graph, target.child, name, field.number, item, out)?;
                }
            }
            (Kind::Map, Value::Object(entries)) => {
                for (key, value) in entries {
                    wire::message(out, field.number, |out| {
                        bytes(out, 1, key.as_bytes());
                        write(graph, target.child, name, 2, value, out)
                    })?;
                }
            }
            _ => write(graph, field.node, name, field.number, value, out)?,
        }
    }
    if inlines && let Some(facets) = graph.type_facets(node) {
        for (number, inlined) in &facets.inlined {
            let before = out.len();
            let empty = wire::message(out, *number, |out| {
                let start = out.len();
                object(graph, *inlined, map, out).map(|()| out.len() == start)
            })?;
            if empty {
                out.truncate(before);
            }
        }
    }
    Ok(())
}

/// Writes one field that is neither a list nor a map.
pub(super) fn write(
    graph: &Graph,
    id: NodeId,
    name: &str,
    number: u16,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), ProtoError> {
    let node = graph.node(id);
    let invalid = |message: String| ProtoError::Value { field: name.to_owned(), message };
    match (node.kind, value) {
        (Kind::Object, Value::Object(map)) => {
            wire::message(out, number, |out| object(graph, id, map, out))?;
        }
        (Kind::String, Value::String(text)) => bytes(out, number, text.as_bytes()),
        (Kind::Boolean, Value::Bool(value)) => varint(out, number, u64::from(*value)),
        (Kind::Integer, Value::Number(value)) => {
            if let Some(value) = value.as_i64() {
                varint(out, number, value as u64);
            }
        }
        (Kind::Number, Value::Number(value)) => {
            if let Some(value) = value.as_f64() {
                fixed64(out, number, value.to_bits());
            }
        }
        (Kind::Bytes, Value::String(text)) => {
            let decoded = BASE64_STANDARD.decode(text).map_err(|e| invalid(e.to_string()))?;
            bytes(out, number, &decoded);
        }
        (Kind::Time | Kind::MicroTime, Value::String(text)) => {
            let time = match node.kind {
                Kind::Time => time::parse_seconds(text),
                _ => time::parse_micros(text),
            };
            let time = time.map_err(|e| invalid(e.to_string()))?;
            wire::message(out, number, |out| {
                varint(out, 1, time.as_nanosecond().div_euclid(1_000_000_000) as i64 as u64);
                let nanos = match node.kind {
                    Kind::Time => 0,
                    _ => time.as_nanosecond().rem_euclid(1_000_000_000) as u64 / 1000 * 1000,
                };
                varint(out, 2, nanos);
            });
        }
        (Kind::Duration, Value::String(text)) => {
            let nanos = time::parse_duration(text).map_err(|e| invalid(e.to_string()))?;
            wire::message(out, number, |out| varint(out, 1, nanos as u64));
        }
        (Kind::Quantity, Value::String(text)) => {
            wire::message(out, number, |out| bytes(out, 1, text.as_bytes()));
        }
        (Kind::IntOrString, Value::Number(value)) => {
            let value = value.as_i64().unwrap_or_default();
            int_or_string(out, number, 0, value, "");
        }
        (Kind::IntOrString, Value::String(text)) => int_or_string(out, number, 1, 0, text),
        // A list in a message of its own.
        (Kind::Array, Value::Array(list)) => wire::message(out, number, |out| {
            list.iter().try_for_each(|item| write(graph, node.child, name, 1, item, out))
        })?,
        (Kind::RawExtension | Kind::FieldsV1 | Kind::Any, value) => {
            wire::message(out, number, |out| free(graph, node.wire, value, out))?;
        }
        _ => {}
    }
    Ok(())
}

fn int_or_string(out: &mut Vec<u8>, number: u16, kind: u64, value: i64, text: &str) {
    wire::message(out, number, |out| {
        varint(out, 1, kind);
        varint(out, 2, value as u64);
        bytes(out, 3, text.as_bytes());
    });
}

/// Values whose form the schema leaves open.
fn free(graph: &Graph, wire: Wire, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtoError> {
    let schema = |out: &mut Vec<u8>, number, value: &Value| {
        wire::message(out, number, |out| message(graph, json_schema::node(), value, out))
    };
    match (wire, value) {
        (Wire::SchemaOrBool, Value::Bool(value)) => varint(out, 1, u64::from(*value)),
        (Wire::SchemaOrBool, value) => {
            varint(out, 1, 1);
            schema(out, 2, value)?;
        }
        (Wire::SchemaOrArray, Value::Array(list)) => {
            list.iter().try_for_each(|value| schema(out, 2, value))?;
        }
        (Wire::SchemaOrNames, Value::Array(list)) => {
            let names = list.iter().filter_map(Value::as_str);
            names.for_each(|name| bytes(out, 2, name.as_bytes()));
        }
        (Wire::SchemaOrArray | Wire::SchemaOrNames, value) => schema(out, 1, value)?,
        // Null is written as no bytes at all: it is what is not there.
        (_, Value::Null) => {}
        (_, value) => bytes(out, 1, value.to_string().as_bytes()),
    }
    Ok(())
}
