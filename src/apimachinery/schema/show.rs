//! Values in error messages: upstream prints the structs that it works with, whose fields are in the
//! order of their definition; those of its internal types have no JSON names and are printed set or
//! not.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    graph::{Field, Graph, Kind, NodeId, field},
    handle::Schema,
    leaf::zero,
};

/// Parts that Go writes in capitals when a name begins with them.
const INITIALISMS: [&str; 6] = ["api", "cel", "ip", "uid", "url", "fs"];

impl Schema {
    /// A value of this schema as upstream prints it when the type is one of its internal ones.
    pub fn show_go(&self, value: &Value) -> String {
        let mut out = String::new();
        show(self.graph(), self.id(), value, true, &mut out);
        out
    }

    /// The value of a field of this schema, which in Go may have one even where there is none.
    pub fn show_go_field(&self, name: &str, value: &Value) -> String {
        let (graph, mut out) = (self.graph(), String::new());
        match graph.field(self.node(), name) {
            Some(field) => show_field(graph, field, value, true, &mut out),
            None => out = value.to_string(),
        }
        out
    }

    /// The same when the type is one of an API version.
    pub fn show_json(&self, value: &Value) -> String {
        let mut out = String::new();
        show(self.graph(), self.id(), value, false, &mut out);
        out
    }
}

/// A value as Go writes JSON: what could be taken for HTML is escaped.
pub fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    // These stand in strings only.
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn show(graph: &Graph, id: NodeId, value: &Value, internal: bool, out: &mut String) {
    let node = graph.node(id);
    match (node.kind, value) {
        (Kind::Object, Value::Object(map)) => {
            // What is common to all groups has the same type in all versions.
            let go_type = graph.go_types.get(node.go_type as usize).map_or("", |name| name);
            let internal = internal && !go_type.contains("meta/v1.");
            let mut fields: Vec<&Field> = graph.fields(node).iter().collect();
            fields.sort_by_key(|field| (field.has(field::INLINED), field.number));
            let mut comma = "{";
            for field in fields {
                let name = graph.name(field);
                let value = map.get(name).unwrap_or(&Value::Null);
                if !internal && !map.contains_key(name) {
                    continue;
                }
                if internal && name == "metadata" {
                    // It is embedded, and its fields with it.
                    let inner = inlined(graph, field.node, value);
                    if !inner.is_empty() {
                        let _ = write!(out, "{comma}{inner}");
                        comma = ",";
                    }
                    continue;
                }
                let _ = match internal {
                    true => write!(out, "{comma}\"{}\":", go_name(name)),
                    false => write!(out, "{comma}\"{name}\":"),
                };
                comma = ",";
                show_field(graph, field, value, internal, out);
            }
            out.push_str(if comma == "{" { "{}" } else { "}" });
        }
        (Kind::Array, Value::Array(items)) => {
            let mut comma = "[";
            for item in items {
                out.push_str(comma);
                show(graph, node.child, item, internal, out);
                comma = ",";
            }
            out.push_str(if comma == "[" { "[]" } else { "]" });
        }
        (Kind::Map, Value::Object(map)) => {
            let mut comma = "{";
            for (key, value) in map {
                let _ = write!(out, "{comma}{}:", Value::from(key.as_str()));
                show(graph, node.child, value, internal, out);
                comma = ",";
            }
            out.push_str(if comma == "{" { "{}" } else { "}" });
        }
        _ => {
            out.push_str(&go_json(value));
        }
    }
}

fn show_field(graph: &Graph, field: &Field, value: &Value, internal: bool, out: &mut String) {
    match value {
        Value::Null if !field.has(field::POINTER) => {
            show(graph, field.node, &zero(graph, field.node), internal, out);
        }
        value => show(graph, field.node, value, internal, out),
    }
}

fn inlined(graph: &Graph, id: NodeId, value: &Value) -> String {
    let mut out = String::new();
    show(graph, id, value, false, &mut out);
    out.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().to_owned()
}

fn go_name(name: &str) -> String {
    let word = name.find(|c: char| c.is_ascii_uppercase()).unwrap_or(name.len());
    let (first, rest) = name.split_at(word);
    if INITIALISMS.contains(&first) {
        return first.to_ascii_uppercase() + rest;
    }
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
