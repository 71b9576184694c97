//! Protobuf messages to values.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    ProtoError,
    wire::{Item, Reader},
};
use crate::{
    quantity,
    schema::{
        Kind, decode_json,
        graph::{Field, Graph, NodeId, Wire, field},
        json_schema, leaf,
    },
    time,
};

/// Messages nested deeper than this are refused. The deepest real ones are the schemas of custom
/// resources, which take two levels (a map entry and a message) for each of theirs.
const MAX_DEPTH: usize = 300;

/// Reads the message of a struct.
pub(super) fn message(graph: &Graph, id: NodeId, bytes: &[u8]) -> Result<Value, ProtoError> {
    object(graph, id, bytes, 0)
}

fn object(graph: &Graph, id: NodeId, bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
    let mut map = Map::new();
    fill(graph, id, bytes, &mut map, depth)?;
    for field in graph.fields(graph.node(id)) {
        let name = graph.name(field);
        match map.get(name) {
            Some(value) if !value.is_null() => {
                if leaf::omitted(graph, field, value) {
                    map.remove(name);
                }
            }
            found => {
                let found = found.is_some();
                match leaf::absent(graph, field) {
                    Some(value) => {
                        map.insert(name.to_owned(), value);
                    }
                    None if found => {
                        map.remove(name);
                    }
                    None => {}
                }
            }
        }
    }
    Ok(Value::Object(map))
}

/// Reads the fields of a message into an object; those of inlined structs are messages of their
/// own, but fields of the same object.
fn fill(
    graph: &Graph,
    id: NodeId,
    bytes: &[u8],
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtoError> {
    if depth > MAX_DEPTH {
        return Err(ProtoError::Depth);
    }
    let node = graph.node(id);
    let fields = graph.fields(node);
    let inlined = graph.type_facets(node).map_or(&[][..], |facets| &facets.inlined);
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        let matches = |field: &&Field| u32::from(field.number) == number && number != 0;
        if let Some(field) = fields.iter().find(matches) {
            add(graph, field, item, map, depth)?;
        } else if let Some((_, id)) = inlined.iter().find(|(n, _)| u32::from(*n) == number) {
            let name = graph.go_type(graph.node(*id));
            fill(graph, *id, item.bytes(&name)?, map, depth + 1)?;
        }
    }
    Ok(())
}

fn add(
    graph: &Graph,
    field: &Field,
    item: Item<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtoError> {
    let node = graph.node(field.node);
    let name = graph.name(field);
    match node.kind {
        Kind::Array if node.wire != Wire::WrappedList => {
            let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Ok(()) };
            repeated(graph, node.child, name, item, list, depth)
        }
        Kind::Map => {
            let entries = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(entries) = entries else { return Ok(()) };
            let (key, value) = entry(graph, node.child, name, item.bytes(name)?, depth)?;
            entries.insert(key, value);
            Ok(())
        }
        _ => {
            let value = value(graph, field.node, name, item, depth)?;
            // A struct that is not behind a pointer and says nothing is the same as none, but
            // null is what a time that is not set is.
            if !value.is_null() || field.has(field::ALWAYS_WRITTEN) {
                map.insert(name.to_owned(), value);
            }
            Ok(())
        }
    }
}

/// One item of a list, or several numbers in one packed field.
fn repeated(
    graph: &Graph,
    id: NodeId,
    name: &str,
    item: Item<'_>,
    list: &mut Vec<Value>,
    depth: usize,
) -> Result<(), ProtoError> {
    if let (Kind::Integer | Kind::Boolean, Item::Bytes(packed)) = (graph.node(id).kind, item) {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let item = Item::Varint(reader.varint()?);
            list.push(value(graph, id, name, item, depth)?);
        }
        return Ok(());
    }
    list.push(value(graph, id, name, item, depth)?);
    Ok(())
}

fn entry(
    graph: &Graph,
    id: NodeId,
    name: &str,
    bytes: &[u8],
    depth: usize,
) -> Result<(String, Value), ProtoError> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        match number {
            1 => key = text(item, name)?,
            2 => found = Some(value(graph, id, name, item, depth + 1)?),
            _ => {}
        }
    }
    let value = found.unwrap_or_else(|| match graph.node(id).kind {
        Kind::Bytes => "".into(),
        _ => leaf::zero(graph, id),
    });
    Ok((key, value))
}

fn value(
    graph: &Graph,
    id: NodeId,
    name: &str,
    item: Item<'_>,
    depth: usize,
) -> Result<Value, ProtoError> {
    let node = graph.node(id);
    Ok(match node.kind {
        Kind::Object => object(graph, id, item.bytes(name)?, depth + 1)?,
        Kind::String => Value::String(text(item, name)?),
        Kind::Boolean => Value::Bool(item.varint(name)? != 0),
        Kind::Integer if node.wire == Wire::Int32 => (item.varint(name)? as i32).into(),
        Kind::Integer => (item.varint(name)? as i64).into(),
        Kind::Number => match item {
            Item::Fixed64(bits) => {
                let number = f64::from_bits(bits);
                leaf::number(&number.to_string()).unwrap_or(Value::Null)
            }
            other => return Err(other.misfit(name)),
        },
        Kind::Bytes => BASE64_STANDARD.encode(item.bytes(name)?).into(),
        Kind::Time | Kind::MicroTime => instant(node.kind, name, item.bytes(name)?)?,
        Kind::Duration => {
            let nanos = first(item.bytes(name)?, |item| item.varint(name))?.unwrap_or(0);
            time::format_duration(nanos as i64).into()
        }
        Kind::Quantity => match first(item.bytes(name)?, |item| text(item, name))? {
            Some(text) => match quantity::canonical(&text) {
                Ok(text) => text.into_owned().into(),
                Err(error) => return Err(invalid(name, &error)),
            },
            None => "0".into(),
        },
        Kind::IntOrString => int_or_string(name, item.bytes(name)?)?,
        Kind::RawExtension | Kind::FieldsV1 | Kind::Any => {
            free(graph, node.wire, name, item.bytes(name)?, depth)?
        }
        // A list in a message of its own: a value of a map, or a type with methods.
        Kind::Array => {
            let mut list = Vec::new();
            let mut reader = Reader::new(item.bytes(name)?);
            while let Some((number, item)) = reader.next()? {
                if number == 1 {
                    repeated(graph, node.child, name, item, &mut list, depth + 1)?;
                }
            }
            Value::Array(list)
        }
        // No type has maps as items or as values.
        Kind::Map => Value::Object(Map::new()),
    })
}

/// The value of field 1 of a message that has only that.
fn first<'a, T>(
    bytes: &'a [u8],
    mut read: impl FnMut(Item<'a>) -> Result<T, ProtoError>,
) -> Result<Option<T>, ProtoError> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Some((number, item)) = reader.next()? {
        if number == 1 {
            found = Some(read(item)?);
        }
    }
    Ok(found)
}

/// Go strings may hold what is not UTF-8; its JSON has the replacement character for that.
fn text(item: Item<'_>, name: &str) -> Result<String, ProtoError> {
    Ok(String::from_utf8_lossy(item.bytes(name)?).into_owned())
}

fn instant(kind: Kind, name: &str, bytes: &[u8]) -> Result<Value, ProtoError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        match number {
            1 => seconds = item.varint(name)? as i64,
            2 => nanos = item.varint(name)? as i32,
            _ => {}
        }
    }
    let nanos = if kind == Kind::Time { 0 } else { nanos };
    let time = Timestamp::new(seconds, nanos).map_err(|error| invalid(name, &error))?;
    let text = match kind {
        Kind::Time => time::canonical_seconds(&time::format_seconds(time)),
        _ => time::canonical_micros(&time::format_micros(time)),
    };
    // Go's zero time is null.
    Ok(text.ok().flatten().map_or(Value::Null, Value::String))
}

fn int_or_string(name: &str, bytes: &[u8]) -> Result<Value, ProtoError> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((field, item)) = reader.next()? {
        match field {
            1 => is_text = item.varint(name)? == 1,
            2 => number = item.varint(name)? as i32,
            3 => string = text(item, name)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

/// Values whose form the schema leaves open.
fn free(
    graph: &Graph,
    wire: Wire,
    name: &str,
    bytes: &[u8],
    depth: usize,
) -> Result<Value, ProtoError> {
    if wire == Wire::RawJson {
        let raw = first(bytes, |item| item.bytes(name))?.unwrap_or_default();
        if raw.is_empty() {
            return Ok(Value::Null);
        }
        if raw.starts_with(super::MAGIC) {
            return if depth < 10 {
                super::decode_object(raw, None)
            } else {
                Err(ProtoError::Depth)
            };
        }
        return match decode_json(raw) {
            Ok(decoded) => Ok(decoded.value),
            Err(error) => Err(invalid(name, &error)),
        };
    }
    let (mut flag, mut schema, mut list) = (false, None, Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        match (wire, number) {
            (Wire::SchemaOrBool, 1) => flag = item.varint(name)? != 0,
            (Wire::SchemaOrBool, 2) | (_, 1) => {
                schema = Some(json_schema(graph, item.bytes(name)?, depth)?);
            }
            (Wire::SchemaOrArray, 2) => list.push(json_schema(graph, item.bytes(name)?, depth)?),
            (Wire::SchemaOrNames, 2) => list.push(Value::String(text(item, name)?)),
            _ => {}
        }
    }
    Ok(match (wire, schema) {
        (Wire::SchemaOrBool, Some(schema)) => schema,
        (Wire::SchemaOrBool, None) => flag.into(),
        (_, schema) if !list.is_empty() => {
            debug_assert!(schema.is_none());
            list.into()
        }
        (_, schema) => schema.unwrap_or(Value::Null),
    })
}

fn json_schema(graph: &Graph, bytes: &[u8], depth: usize) -> Result<Value, ProtoError> {
    object(graph, json_schema::node(), bytes, depth + 2)
}

fn invalid(name: &str, error: &dyn std::fmt::Display) -> ProtoError {
    ProtoError::Value { field: name.to_owned(), message: error.to_string() }
}
