//! The fieldsV1 form of a set: an object of objects, keys being elements, `.` the node itself.

use serde_json::{Map, Value};

use super::element::PathElement;
use super::set::{Node, Set};

/// Deepest fieldsV1 document that is read: deeper than any object can be.
const MAX_DEPTH: usize = 256;

/// The set as fieldsV1.
pub fn encode(set: &Set) -> Value {
    encode_node(false, set)
}

fn encode_node(member: bool, set: &Set) -> Value {
    let mut fields = Map::new();
    if member && !set.is_empty() {
        fields.insert(".".to_owned(), Value::Object(Map::new()));
    }
    for node in set.nodes() {
        fields.insert(node.element.encode(), encode_node(node.member, &node.below));
    }
    Value::Object(fields)
}

/// Reads fieldsV1; null and what is missing is the empty set.
pub fn decode(fields: &Value) -> Result<Set, String> {
    match fields {
        Value::Object(fields) => Ok(decode_node(fields, 0)?.1),
        Value::Null => Ok(Set::default()),
        _ => Err("expected an object".to_owned()),
    }
}

/// Whether the node itself is a member, and what is below it. A node with nothing in it that is
/// understood counts as a member.
fn decode_node(fields: &Map<String, Value>, depth: usize) -> Result<(bool, Set), String> {
    if depth > MAX_DEPTH {
        return Err("nested too deep".to_owned());
    }
    let mut member = false;
    let mut nodes = Vec::with_capacity(fields.len());
    for (key, value) in fields {
        if key == "." {
            member = true;
            continue;
        }
        let Some(element) =
            PathElement::decode(key).map_err(|e| format!("parsing key as path element: {e}"))?
        else {
            continue;
        };
        let (member, below) = match value {
            Value::Object(fields) => decode_node(fields, depth + 1)?,
            Value::Null => (true, Set::default()),
            _ => return Err(format!("expected an object for {key}")),
        };
        if member || !below.is_empty() {
            nodes.push(Node { element, member, below });
        }
    }
    let below = Set::from_nodes(nodes);
    Ok((member || below.is_empty(), below))
}
