//! Defaults: what a field is where it was not given. One walk for built-in kinds and custom
//! resources; defaults that depend on other fields are the business of a kind's own rules.

use serde_json::Value;

use super::{
    Schema,
    graph::{BUILTIN, Graph, Kind, NONE, NodeId, flag},
    leaf,
};
use crate::quantity::Quantity;

impl Schema {
    /// Puts defaults where values are missing, or null although the schema allows no null. A
    /// default of a field is only set where its object is there.
    pub fn default_values(&self, value: &mut Value) {
        fill(self.graph(), self.id(), value);
    }
}

fn fill(graph: &Graph, id: NodeId, value: &mut Value) {
    if id == NONE || id & BUILTIN != 0 {
        return;
    }
    let node = graph.node(id);
    if !node.has(flag::DEFAULTS_BELOW) {
        return;
    }
    match value {
        Value::Object(map) => {
            for field in graph.fields(node) {
                if field.node & BUILTIN != 0 {
                    continue;
                }
                let below = graph.node(field.node);
                if !below.has(flag::DEFAULTS_BELOW) {
                    continue;
                }
                let name = graph.name(field);
                let default = graph.facets(below).and_then(|f| f.default.as_ref());
                match (map.get_mut(name), default) {
                    (Some(value), default) => {
                        let unset = value.is_null() && !below.has(flag::NULLABLE)
                            || graph.typed && leaf::is_scalar(graph, field) && leaf::is_zero(value);
                        if let Some(default) = default
                            && unset
                        {
                            *value = default.clone();
                        }
                        fill(graph, field.node, value);
                    }
                    // An empty value that Go would not write is not there either way.
                    (None, Some(default))
                        if graph.typed && leaf::omitted(graph, field, default) => {}
                    (None, Some(default)) => {
                        let mut value = default.clone();
                        fill(graph, field.node, &mut value);
                        map.insert(name.to_owned(), value);
                    }
                    (None, None) => {}
                }
            }
            if node.kind == Kind::Map {
                for (key, value) in map.iter_mut() {
                    if graph.typed && graph.node(node.child).kind == Kind::Quantity {
                        round(value);
                    } else if graph.field(node, key).is_none() {
                        item(graph, node.child, value);
                    }
                }
            }
        }
        Value::Array(list) if node.kind == Kind::Array => {
            list.iter_mut().for_each(|value| item(graph, node.child, value));
        }
        _ => {}
    }
}

/// A value of a map or an item of a list: a null that is not allowed becomes the default.
fn item(graph: &Graph, id: NodeId, value: &mut Value) {
    if id == NONE || id & BUILTIN != 0 {
        return;
    }
    let node = graph.node(id);
    if value.is_null()
        && !node.has(flag::NULLABLE)
        && let Some(default) = graph.facets(node).and_then(|f| f.default.as_ref())
    {
        *value = default.clone();
    }
    fill(graph, id, value);
}

/// Amounts of resources have no more than three decimals: finer ones are rounded up.
fn round(value: &mut Value) {
    let Value::String(text) = value else { return };
    // Only these suffixes, exponents and fractions can be finer than a thousandth.
    if !text.contains(['n', 'u', '.', 'e', 'E']) {
        return;
    }
    if let Ok(quantity) = Quantity::parse(text) {
        let rounded = quantity.rounded_to(-3);
        if rounded != quantity {
            *text = rounded.to_string();
        }
    }
}
