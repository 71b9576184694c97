//! What upstream checks of custom resources beside their values: that the items of sets and the keys
//! of list maps occur once, and that embedded resources say what they are.

use serde_json::Value;

use super::{
    Schema,
    graph::{BUILTIN, Graph, Kind, ListType, NONE, Node, NodeId, flag},
};
use crate::field::{FieldError, Path};

impl Schema {
    /// Checks that the items of sets and the keys of list maps occur once.
    pub fn validate_lists(&self, value: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !self.graph().typed {
            unique(self.graph(), self.id(), value, &Path::empty(), &mut errors);
        }
        errors
    }

    /// Checks that embedded resources have an `apiVersion` and a `kind`. Answered too is where there
    /// are such: their metadata is the caller's to check, as that of every object.
    pub fn validate_embedded<'v>(
        &self,
        value: &'v Value,
    ) -> (Vec<FieldError>, Vec<(Path, &'v Value)>) {
        let (mut errors, mut found) = (Vec::new(), Vec::new());
        if !self.graph().typed {
            embedded(self.graph(), self.id(), value, &Path::empty(), &mut errors, &mut found);
        }
        (errors, found)
    }
}

/// Finds what occurs twice in sets and list maps.
fn unique(graph: &Graph, id: NodeId, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if id == NONE || id & BUILTIN != 0 {
        return;
    }
    let node = graph.node(id);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match graph.field(node, key) {
                    Some(field) => unique(graph, field.node, value, &path.child(key), errors),
                    None if node.kind == Kind::Map => {
                        unique(graph, node.child, value, &path.key(key), errors);
                    }
                    None => {}
                }
            }
        }
        Value::Array(list) if node.kind == Kind::Array => {
            match node.list_type {
                ListType::Set => repeated(list.iter(), |i, item| {
                    errors.push(FieldError::duplicate(&path.index(i), item.clone()));
                }),
                ListType::Map => list_map(graph, node, list, path, errors),
                ListType::Atomic => {}
            }
            for (i, value) in list.iter().enumerate() {
                unique(graph, node.child, value, &path.index(i), errors);
            }
        }
        _ => {}
    }
}

fn list_map(graph: &Graph, node: &Node, list: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(i) = list.iter().position(|item| !item.is_null() && !item.is_object()) {
        let detail = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(i), list[i].clone(), detail));
        return;
    }
    let Some(facets) = graph.facets(node) else { return };
    let key = |item: &Value| {
        let keys = facets.list_map_keys.iter();
        let present = keys.filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())));
        Value::Object(present.collect())
    };
    let keys: Vec<Value> = list.iter().map(key).collect();
    repeated(keys.iter(), |i, key| {
        errors.push(FieldError::duplicate(&path.index(i), key.clone()));
    });
}

/// Calls back for the second occurrence of each value that occurs more than once.
fn repeated<'v>(values: impl Iterator<Item = &'v Value>, mut found: impl FnMut(usize, &'v Value)) {
    let mut seen = std::collections::HashMap::new();
    for (i, value) in values.enumerate() {
        let times = seen.entry(value).or_insert(0);
        *times += 1;
        if *times == 2 {
            found(i, value);
        }
    }
}

fn embedded<'v>(
    graph: &Graph,
    id: NodeId,
    value: &'v Value,
    path: &Path,
    errors: &mut Vec<FieldError>,
    found: &mut Vec<(Path, &'v Value)>,
) {
    if id == NONE || id & BUILTIN != 0 {
        return;
    }
    let node = graph.node(id);
    match value {
        Value::Object(map) => {
            if node.has(flag::EMBEDDED_RESOURCE) {
                for name in ["apiVersion", "kind"] {
                    type_meta(name, map.get(name), &path.child(name), errors);
                }
                found.push((path.clone(), value));
            }
            for (key, value) in map {
                match graph.field(node, key) {
                    Some(field) => {
                        embedded(graph, field.node, value, &path.child(key), errors, found);
                    }
                    None if node.kind == Kind::Map => {
                        embedded(graph, node.child, value, &path.key(key), errors, found);
                    }
                    None => {}
                }
            }
        }
        Value::Array(list) if node.kind == Kind::Array => {
            for (i, value) in list.iter().enumerate() {
                embedded(graph, node.child, value, &path.index(i), errors, found);
            }
        }
        _ => {}
    }
}

fn type_meta(name: &str, value: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let text = match value {
        None => {
            errors.push(FieldError::required(path, ""));
            return;
        }
        Some(Value::String(text)) => text,
        Some(other) => {
            errors.push(FieldError::invalid(path, other.clone(), "must be a string"));
            return;
        }
    };
    if text.is_empty() {
        errors.push(FieldError::invalid(path, "", "must not be empty"));
    } else if name == "apiVersion" && text.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {text}");
        errors.push(FieldError::invalid(path, text.as_str(), &detail));
    } else if name == "kind" {
        let found = crate::names::dns1035_label(&text.to_lowercase());
        if !found.is_empty() {
            let detail =
                format!("may have mixed case, but should otherwise match: {}", found.join(","));
            errors.push(FieldError::invalid(path, text.as_str(), &detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::schema::from_crd;

    #[test]
    fn finds_what_occurs_twice() {
        let schema = from_crd(&json!({"type": "object", "properties": {
            "set": {
                "type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"},
            },
            "map": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}},
            },
        }}))
        .unwrap();
        let value = json!({"set": ["a", "b", "a", "a"], "map": [{"k": "x"}, {"k": "x", "v": 1}]});
        let errors = schema.validate_lists(&value);
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [r#"map[1]: Duplicate value: {"k":"x"}"#, r#"set[2]: Duplicate value: "a""#]
        );
    }

    #[test]
    fn embedded_resources_say_what_they_are() {
        let schema = from_crd(&json!({"type": "object", "properties": {
            "l": {"type": "array", "items": {
                "type": "object",
                "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true,
            }},
        }}))
        .unwrap();
        let value = json!({"l": [{"apiVersion": "v1", "kind": "Pod"}, {"kind": ""}]});
        let (errors, found) = schema.validate_embedded(&value);
        let found: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(found, ["l[0]", "l[1]"]);
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "l[1].apiVersion: Required value",
                r#"l[1].kind: Invalid value: "": must not be empty"#,
            ]
        );
    }
}
