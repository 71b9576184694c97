//! What storing does to an object: upstream stores protobuf, which has no empty lists, so that those
//! that are always written come back as null.

use serde_json::Value;

use super::{
    graph::{Graph, Kind, NodeId},
    handle::Schema,
};

impl Schema {
    /// Makes an object of a built-in kind what it is once it was stored.
    pub fn store(&self, value: &mut Value) {
        if self.graph().typed {
            store(self.graph(), self.id(), value);
        }
    }
}

fn store(graph: &Graph, id: NodeId, value: &mut Value) {
    let node = graph.node(id);
    match (node.kind, value) {
        (Kind::Object, Value::Object(map)) => {
            for (key, value) in map.iter_mut().filter(|(_, value)| !is_scalar(value)) {
                let Some(field) = graph.field(node, key) else { continue };
                let of = graph.node(field.node).kind;
                if of == Kind::Array && value.as_array().is_some_and(Vec::is_empty) {
                    *value = Value::Null;
                } else {
                    store(graph, field.node, value);
                }
            }
        }
        (Kind::Array, Value::Array(items)) => {
            items.iter_mut().for_each(|item| store(graph, node.child, item));
        }
        (Kind::Map, Value::Object(map)) => {
            map.values_mut().for_each(|value| store(graph, node.child, value));
        }
        _ => {}
    }
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::schema::builtin;

    #[test]
    fn empty_lists_become_null() {
        let schema = builtin("rbac.authorization.k8s.io", "v1", "Role").unwrap();
        let mut role = json!({"metadata": {"name": "a"}, "rules": []});
        schema.store(&mut role);
        assert_eq!(role, json!({"metadata": {"name": "a"}, "rules": null}));
        let mut role = json!({"rules": [{"verbs": [], "apiGroups": ["a"]}]});
        schema.store(&mut role);
        assert_eq!(role, json!({"rules": [{"verbs": null, "apiGroups": ["a"]}]}));
    }
}
