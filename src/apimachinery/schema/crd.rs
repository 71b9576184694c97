//! From the `openAPIV3Schema` of a CustomResourceDefinition to a schema graph.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Schema,
    graph::{Facets, Graph, Kind, ListType, NONE, Node, NodeId, Validation, flag},
};

/// One reason why a schema cannot be used, with its place below `openAPIV3Schema`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct SchemaError {
    /// The place, such as `properties[spec].items`; empty for the root.
    pub path: String,
    /// The reason, worded like upstream's.
    pub message: String,
}

/// Schemas nested deeper than this are refused: every walk over them recurses.
const MAX_DEPTH: usize = 128;

/// Builds the schema of a custom resource from an OpenAPI v3 schema.
pub fn from_crd(open_api_v3_schema: &Value) -> Result<Schema, Vec<SchemaError>> {
    let mut build = Build { graph: Graph::default(), errors: Vec::new() };
    let root = build.node(open_api_v3_schema, &mut String::new(), 0);
    if build.errors.is_empty() {
        Ok(Schema::custom(Arc::new(build.graph), root))
    } else {
        Err(build.errors)
    }
}

struct Build {
    graph: Graph,
    errors: Vec<SchemaError>,
}

impl Build {
    fn node(&mut self, schema: &Value, path: &mut String, depth: usize) -> NodeId {
        if depth > MAX_DEPTH {
            self.errors.push(SchemaError {
                path: path.clone(),
                message: format!("must not be nested deeper than {MAX_DEPTH} levels"),
            });
            return NONE;
        }
        let empty = Map::new();
        let s = schema.as_object().unwrap_or(&empty);
        let mut node = Node::new(kind_of(s));
        for (key, flag) in [
            ("nullable", flag::NULLABLE),
            ("x-kubernetes-preserve-unknown-fields", flag::PRESERVE_UNKNOWN),
            ("x-kubernetes-embedded-resource", flag::EMBEDDED_RESOURCE),
        ] {
            if s.get(key) == Some(&Value::Bool(true)) {
                node.flags |= flag;
            }
        }
        if text(s, "x-kubernetes-map-type") == Some("atomic") {
            node.flags |= flag::ATOMIC_MAP;
        }
        match text(s, "x-kubernetes-list-type") {
            Some("set") => node.list_type = ListType::Set,
            Some("map") => node.list_type = ListType::Map,
            _ => {}
        }
        match node.kind {
            Kind::Map => {
                node.child = match s.get("additionalProperties") {
                    Some(values @ Value::Object(_)) => {
                        self.child(values, path, "additionalProperties", depth)
                    }
                    _ => self.anything(),
                }
            }
            Kind::Array => {
                if let Some(items) = s.get("items") {
                    node.child = self.child(items, path, "items", depth);
                }
            }
            _ => {}
        }
        if let Some(Value::Object(properties)) = s.get("properties") {
            let named = properties.iter().map(|(name, schema)| {
                let step = format!("properties[{name}]");
                (name.as_str(), self.child(schema, path, &step, depth))
            });
            let named = named.collect();
            (node.first, node.len) = self.graph.add_fields(named);
        }
        if let Some(facets) = self.facets(s, path, depth) {
            node.facets = self.graph.add_facets(facets);
        }
        self.graph.add_node(node)
    }

    fn child(&mut self, schema: &Value, path: &mut String, step: &str, depth: usize) -> NodeId {
        let len = path.len();
        if len > 0 {
            path.push('.');
        }
        path.push_str(step);
        let node = self.node(schema, path, depth + 1);
        path.truncate(len);
        node
    }

    fn anything(&mut self) -> NodeId {
        let mut node = Node::new(Kind::Any);
        node.flags = flag::PRESERVE_UNKNOWN;
        self.graph.add_node(node)
    }

    /// What few schemas have; nothing for the plain ones.
    fn facets(
        &mut self,
        s: &Map<String, Value>,
        path: &mut String,
        depth: usize,
    ) -> Option<Facets> {
        let facets = Facets {
            default: s.get("default").filter(|d| !d.is_null()).cloned(),
            format: text(s, "format").map(Into::into),
            enum_values: s.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            list_map_keys: texts(s, "x-kubernetes-list-map-keys"),
            required: texts(s, "required"),
            rules: s.get("x-kubernetes-validations").cloned(),
            validation: self.validation(s, path, depth),
            ..Facets::default()
        };
        let plain = facets.default.is_none()
            && facets.format.is_none()
            && facets.enum_values.is_empty()
            && facets.list_map_keys.is_empty()
            && facets.required.is_empty()
            && facets.rules.is_none()
            && facets.validation.is_none();
        (!plain).then_some(facets)
    }

    fn validation(
        &mut self,
        s: &Map<String, Value>,
        path: &mut String,
        depth: usize,
    ) -> Option<Box<Validation>> {
        const KEYS: [&str; 17] = [
            "maximum",
            "exclusiveMaximum",
            "minimum",
            "exclusiveMinimum",
            "multipleOf",
            "maxLength",
            "minLength",
            "pattern",
            "maxItems",
            "minItems",
            "uniqueItems",
            "maxProperties",
            "minProperties",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if !KEYS.iter().any(|key| s.contains_key(*key)) {
            return None;
        }
        let number = |key| s.get(key).and_then(Value::as_f64);
        let count = |key| s.get(key).and_then(Value::as_i64);
        let yes = |key| s.get(key) == Some(&Value::Bool(true));
        let mut each = |key: &str| {
            let all = s.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let step = |i| format!("{key}[{i}]");
            all.iter().enumerate().map(|(i, s)| self.child(s, path, &step(i), depth)).collect()
        };
        Some(Box::new(Validation {
            maximum: number("maximum"),
            exclusive_maximum: yes("exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: yes("exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            pattern: text(s, "pattern").map(Into::into),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            unique_items: yes("uniqueItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            all_of: each("allOf"),
            any_of: each("anyOf"),
            one_of: each("oneOf"),
            not: s.get("not").map(|not| self.child(not, path, "not", depth)),
        }))
    }
}

fn kind_of(s: &Map<String, Value>) -> Kind {
    if s.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Kind::IntOrString;
    }
    match text(s, "type") {
        Some("object") => match s.get("additionalProperties") {
            Some(Value::Object(_) | Value::Bool(true)) => Kind::Map,
            _ => Kind::Object,
        },
        Some("array") => Kind::Array,
        Some("string") => Kind::String,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        _ => Kind::Any,
    }
}

fn text<'a>(s: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    s.get(key)?.as_str()
}

fn texts(s: &Map<String, Value>, key: &str) -> Vec<Box<str>> {
    let all = s.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(Value::as_str).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_structure_and_merge_facts() {
        let schema = from_crd(&json!({
            "type": "object",
            "required": ["spec"],
            "properties": {
                "spec": {
                    "type": "object",
                    "x-kubernetes-map-type": "atomic",
                    "properties": {
                        "replicas": {"type": "integer", "format": "int32", "default": 1},
                        "port": {"x-kubernetes-int-or-string": true},
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "mode": {"type": "string", "enum": ["a", "b"], "nullable": true},
                        "items": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name", "port"],
                            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                        },
                        "rest": {"x-kubernetes-preserve-unknown-fields": true},
                    },
                },
            },
        }))
        .unwrap();
        assert_eq!(schema.required().collect::<Vec<_>>(), ["spec"]);
        let spec = schema.field("spec").unwrap();
        assert!(spec.is_atomic_map() && schema.field("status").is_none());
        let names: Vec<_> = spec.fields().map(|(name, _)| name).collect();
        assert_eq!(names, ["items", "labels", "mode", "port", "replicas", "rest"]);
        let replicas = spec.field("replicas").unwrap();
        assert_eq!(replicas.kind(), Kind::Integer);
        assert_eq!(replicas.default(), Some(&json!(1)));
        assert_eq!(replicas.format(), Some("int32"));
        assert_eq!(spec.field("port").unwrap().kind(), Kind::IntOrString);
        assert_eq!(spec.field("labels").unwrap().values().unwrap().kind(), Kind::String);
        let mode = spec.field("mode").unwrap();
        assert!(mode.nullable());
        assert_eq!(mode.enum_values(), [json!("a"), json!("b")]);
        let items = spec.field("items").unwrap();
        assert_eq!(items.list_type(), ListType::Map);
        assert_eq!(items.list_map_keys().collect::<Vec<_>>(), ["name", "port"]);
        assert_eq!(items.items().unwrap().field("name").unwrap().kind(), Kind::String);
        let rest = spec.field("rest").unwrap();
        assert!(rest.kind() == Kind::Any && rest.preserve_unknown_fields());
    }

    #[test]
    fn refuses_bottomless_schemas() {
        let mut schema = json!({"type": "object"});
        for _ in 0..=MAX_DEPTH {
            schema = json!({"type": "object", "properties": {"a": schema}});
        }
        assert_eq!(from_crd(&schema).unwrap_err().len(), 1);
    }
}
