//! From the `openAPIV3Schema` of a CustomResourceDefinition to a schema graph.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Schema, builtin,
    graph::{
        BUILTIN, Facets, Graph, Kind, ListType, NONE, NewField, Node, NodeId, Pattern, Validation,
        flag,
    },
    structural,
};
use crate::field::{FieldError, Path};

/// Schemas nested deeper than this are refused: every walk over them recurses.
pub(crate) const MAX_DEPTH: usize = 128;

/// Builds the schema of a custom resource from an OpenAPI v3 schema.
///
/// The root has `apiVersion`, `kind` and `metadata` whether the schema names them or not; so has
/// every embedded resource. Errors are those of [`structural::errors`](super::structural_errors),
/// their paths relative to the schema.
pub fn from_crd(open_api_v3_schema: &Value) -> Result<Schema, Vec<FieldError>> {
    let errors = structural::errors(open_api_v3_schema, &Path::empty());
    if !errors.is_empty() {
        return Err(errors);
    }
    let (graph, root) = graph(open_api_v3_schema);
    Ok(Schema::custom(Arc::new(graph), root))
}

/// The graph of a schema and its root, whatever the schema.
pub(super) fn graph(schema: &Value) -> (Graph, NodeId) {
    let mut build = Build { graph: Graph::default() };
    let root = build.node(schema, true, 0);
    build.graph.mark_defaults();
    (build.graph, root)
}

struct Build {
    graph: Graph,
}

impl Build {
    fn node(&mut self, schema: &Value, root: bool, depth: usize) -> NodeId {
        let empty = Map::new();
        let s = schema.as_object().filter(|_| depth <= MAX_DEPTH).unwrap_or(&empty);
        let mut node = Node::new(kind_of(s));
        for (key, flag) in [
            ("nullable", flag::NULLABLE),
            ("x-kubernetes-preserve-unknown-fields", flag::PRESERVE_UNKNOWN),
            ("x-kubernetes-embedded-resource", flag::EMBEDDED_RESOURCE),
        ] {
            if yes(s, key) {
                node.flags |= flag;
            }
        }
        match text(s, "x-kubernetes-map-type") {
            Some("atomic") => node.flags |= flag::ATOMIC_MAP,
            Some(_) => node.flags |= flag::GRANULAR_MAP,
            None => {}
        }
        if let Some(list_type) = text(s, "x-kubernetes-list-type") {
            node.flags |= flag::LIST_TYPE_GIVEN;
            node.list_type = match list_type {
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Atomic,
            };
        }
        match node.kind {
            Kind::Map => {
                node.child = match s.get("additionalProperties") {
                    Some(values @ Value::Object(_)) => self.node(values, false, depth + 1),
                    _ => self.anything(),
                }
            }
            // Below a junctor a schema speaks of items without a type.
            Kind::Array | Kind::Any => {
                if let Some(items) = s.get("items") {
                    node.child = self.node(items, false, depth + 1);
                }
            }
            _ => {}
        }
        let is_object = root || node.has(flag::EMBEDDED_RESOURCE);
        let properties = s.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let mut fields = Vec::with_capacity(properties.len() + 3);
        for (name, schema) in properties {
            if !(is_object && OBJECT_META.contains(&name.as_str())) {
                fields.push(field(name, self.node(schema, false, depth + 1)));
            }
        }
        let mut validation = self.validation(s, depth);
        if is_object {
            let text = self.graph.add_node(Node::new(Kind::String));
            let meta = builtin::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
            let meta = meta.map_or(NONE, |meta| meta.id() | BUILTIN);
            fields
                .extend(OBJECT_META.into_iter().zip([text, text, meta]).map(|(n, i)| field(n, i)));
            let declared: Map<String, Value> = properties
                .iter()
                .filter(|(name, _)| OBJECT_META.contains(&name.as_str()))
                .map(|(name, schema)| (name.clone(), schema.clone()))
                .collect();
            if !declared.is_empty() {
                let declared = serde_json::json!({"properties": declared});
                validation.get_or_insert_default().object_meta =
                    Some(self.node(&declared, false, depth + 1));
            }
        }
        (node.first, node.len) = self.graph.add_fields(fields);
        if let Some(facets) = self.facets(s, validation) {
            node.facets = self.graph.add_facets(facets);
        }
        self.graph.add_node(node)
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
        validation: Option<Box<Validation>>,
    ) -> Option<Facets> {
        let facets = Facets {
            default: s.get("default").filter(|d| !d.is_null()).cloned(),
            format: text(s, "format").map(Into::into),
            enum_values: s
                .get("enum")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
                .into(),
            list_map_keys: texts(s, "x-kubernetes-list-map-keys").into(),
            validation,
            ..Facets::default()
        };
        let plain = facets.default.is_none()
            && facets.format.is_none()
            && facets.enum_values.is_empty()
            && facets.list_map_keys.is_empty()
            && facets.validation.is_none();
        (!plain).then_some(facets)
    }

    fn validation(&mut self, s: &Map<String, Value>, depth: usize) -> Option<Box<Validation>> {
        const KEYS: [&str; 19] = [
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
            "required",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "x-kubernetes-validations",
        ];
        if !KEYS.iter().any(|key| s.contains_key(*key)) {
            return None;
        }
        let number = |key| s.get(key).and_then(Value::as_f64);
        let count = |key| s.get(key).and_then(Value::as_i64);
        let mut each = |key: &str| {
            let all = s.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            all.iter().map(|s| self.node(s, false, depth + 1)).collect()
        };
        Some(Box::new(Validation {
            maximum: number("maximum"),
            exclusive_maximum: yes(s, "exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: yes(s, "exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            pattern: text(s, "pattern").map(Pattern::new),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            unique_items: yes(s, "uniqueItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: texts(s, "required"),
            all_of: each("allOf"),
            any_of: each("anyOf"),
            one_of: each("oneOf"),
            not: s.get("not").map(|not| self.node(not, false, depth + 1)),
            object_meta: None,
            rules: s.get("x-kubernetes-validations").cloned(),
        }))
    }
}

/// What every Kubernetes object has, in the order of their names.
pub(crate) const OBJECT_META: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn field(name: &str, node: NodeId) -> NewField<'_> {
    NewField { name, number: 0, description: 0, flags: 0, node }
}

fn yes(s: &Map<String, Value>, key: &str) -> bool {
    s.get(key) == Some(&Value::Bool(true))
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
