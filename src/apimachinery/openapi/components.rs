//! Built-in types as OpenAPI schemas.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::schema::{
    Kind, ListType, builtin, builtin_kinds,
    graph::{Facets, Field, Graph, NONE, Node, NodeId, field, flag},
};

/// Writes built-in types, and remembers which types they refer to.
pub(super) struct Components {
    graph: &'static Graph,
    dialect: Dialect,
    /// Decompressed for the time of one document.
    descriptions: Vec<String>,
    /// The kinds that each type is: group, version, kind. The group is `*` where it is all.
    kinds: HashMap<NodeId, Vec<[String; 3]>>,
    /// The group version of the document, which has the kinds of all group versions as well.
    group_version: Option<(String, String)>,
    /// The types referred to, by name.
    pub(super) wanted: BTreeMap<String, NodeId>,
}

impl Components {
    pub(super) fn new(dialect: Dialect, group_version: Option<(&str, &str)>) -> Self {
        let unescape = |line: &str| match line.contains('\\') {
            true => line.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\"),
            false => line.to_owned(),
        };
        let mut kinds: HashMap<_, Vec<_>> = HashMap::new();
        for (api_version, kind, schema) in builtin_kinds() {
            let (group, version) = match api_version {
                "*" => ("*", ""),
                other => crate::resource::split_api_version(other),
            };
            let kind = [group, version, kind].map(str::to_owned);
            kinds.entry(schema.id()).or_default().push(kind);
        }
        Components {
            graph: builtin::graph(),
            dialect,
            descriptions: builtin::descriptions().lines().map(unescape).collect(),
            kinds,
            group_version: group_version.map(|(g, v)| (g.to_owned(), v.to_owned())),
            wanted: BTreeMap::new(),
        }
    }

    /// Adds a type to those that the document needs.
    pub(super) fn want(&mut self, name: &str) {
        if !self.wanted.contains_key(name)
            && let Some(schema) = crate::schema::builtin_type(name)
        {
            self.wanted.insert(name.to_owned(), schema.id());
        }
    }

    /// The description of a field of a built-in type.
    pub(super) fn description(&self, field: &Field) -> &str {
        self.descriptions.get(usize::from(field.description)).map_or("", |text| text)
    }

    /// The schema of a type. What it refers to is wanted afterwards.
    pub(super) fn component(&mut self, id: NodeId) -> Value {
        let graph = self.graph;
        let node = graph.node(id);
        let mut schema = Map::new();
        let facets = graph.type_facets(node);
        if let Some(facets) = facets {
            let line = usize::from(facets.description);
            describe(&mut schema, self.descriptions.get(line).map_or("", |text| text));
        }
        if node.kind != Kind::Object {
            self.opaque(node.kind, facets, &mut schema);
            return Value::Object(schema);
        }
        schema.insert("type".into(), "object".into());
        let fields = graph.fields(node);
        if !fields.is_empty() {
            let property = |f: &Field| (graph.name(f).to_owned(), self.property(f));
            let properties = fields.iter().map(property).collect();
            schema.insert("properties".into(), Value::Object(properties));
        }
        let required = fields.iter().filter(|f| f.has(field::REQUIRED));
        let mut required: Vec<&Field> = required.collect();
        required.sort_by_key(|f| f.description);
        if !required.is_empty() {
            let names = required.into_iter().map(|f| Value::from(graph.name(f))).collect();
            schema.insert("required".into(), Value::Array(names));
        }
        map_type(node, &mut schema);
        if let Some(unions) = facets.and_then(|facets| facets.unions.as_deref())
            && let Ok(unions) = serde_json::from_str(unions)
        {
            schema.insert("x-kubernetes-unions".into(), unions);
        }
        if let Some(kinds) = self.group_version_kinds(id) {
            schema.insert("x-kubernetes-group-version-kind".into(), kinds);
        }
        Value::Object(schema)
    }

    fn group_version_kinds(&self, id: NodeId) -> Option<Value> {
        let kinds = self.kinds.get(&id)?;
        let named = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
        let mut all = Vec::new();
        for [group, version, kind] in kinds {
            if group == "*" {
                all.push(named("", "v1", kind));
                if let Some((group, version)) = &self.group_version
                    && !group.is_empty()
                {
                    all.push(named(group, version, kind));
                }
            } else {
                all.push(named(group, version, kind));
            }
        }
        Some(Value::Array(all))
    }

    /// Types whose JSON form is not that of their Go struct.
    fn opaque(&self, kind: Kind, facets: Option<&Facets>, schema: &mut Map<String, Value>) {
        let text = |dialect, other: &str| match dialect {
            Dialect::V2 => ("type", Value::from("string")),
            Dialect::V3 => ("oneOf", json!([{"type": other}, {"type": "string"}])),
        };
        let (key, value) = match kind {
            Kind::Quantity if self.dialect == Dialect::V3 => {
                ("oneOf", json!([{"type": "string"}, {"type": "number"}]))
            }
            Kind::Quantity | Kind::Duration => ("type", "string".into()),
            Kind::IntOrString => {
                schema.insert("format".into(), "int-or-string".into());
                text(self.dialect, "integer")
            }
            Kind::Time | Kind::MicroTime => {
                schema.insert("format".into(), "date-time".into());
                ("type", "string".into())
            }
            Kind::RawExtension | Kind::FieldsV1 => ("type", "object".into()),
            _ => {
                debug_assert!(facets.is_some(), "only named types are components");
                return;
            }
        };
        schema.insert(key.into(), value);
    }

    /// The schema of a field.
    pub(super) fn property(&mut self, field: &Field) -> Value {
        let graph = self.graph;
        let node = graph.node(field.node);
        let mut schema = self.value(field.node);
        describe(&mut schema, self.description(field));
        if node.has(flag::LIST_TYPE_GIVEN) {
            let list_type = match node.list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            schema.insert("x-kubernetes-list-type".into(), list_type.into());
        }
        let map_type_of = |node: &Node| node.flags & (flag::ATOMIC_MAP | flag::GRANULAR_MAP);
        if node.kind != Kind::Object || map_type_of(node) != map_type_of(graph.node(node.child)) {
            map_type(node, &mut schema);
        }
        let facets = graph.facets(node);
        if let Some(facets) = facets {
            if !facets.list_map_keys.is_empty() {
                let keys = facets.list_map_keys.iter().map(|key| Value::from(&**key)).collect();
                schema.insert("x-kubernetes-list-map-keys".into(), Value::Array(keys));
            }
            if let Some(key) = &facets.merge_key {
                schema.insert("x-kubernetes-patch-merge-key".into(), Value::from(&**key));
            }
        }
        let strategies =
            [(flag::MERGE, "merge"), (flag::REPLACE, "replace"), (flag::RETAIN_KEYS, "retainKeys")];
        let strategies = strategies.iter().filter(|(flag, _)| node.has(*flag));
        let strategies: Vec<&str> = strategies.map(|(_, name)| *name).collect();
        if !strategies.is_empty() {
            schema.insert("x-kubernetes-patch-strategy".into(), strategies.join(",").into());
        }
        if self.dialect == Dialect::V3
            && let Some(default) = published_default(node, facets, field)
        {
            schema.insert("default".into(), default);
        }
        self.with_reference(schema)
    }

    /// In v3 nothing may stand beside a reference.
    fn with_reference(&self, mut schema: Map<String, Value>) -> Value {
        if self.dialect == Dialect::V3
            && schema.len() > 1
            && let Some(reference) = schema.remove("$ref")
        {
            schema.insert("allOf".into(), json!([{"$ref": reference}]));
        }
        Value::Object(schema)
    }

    /// The schema of a value, wherever it is.
    fn value(&mut self, id: NodeId) -> Map<String, Value> {
        let graph = self.graph;
        let node = graph.node(id);
        if let Some(name) = graph.type_facets(node).and_then(|facets| facets.type_name.as_deref()) {
            let target = if node.kind == Kind::Object { node.child } else { id };
            self.wanted.entry(name.to_owned()).or_insert(target);
            let Value::Object(reference) = self.dialect.reference(name) else { return Map::new() };
            return reference;
        }
        let mut schema = Map::new();
        let (name, format) = match node.kind {
            Kind::Array => ("array", None),
            Kind::String => ("string", None),
            Kind::Bytes => ("string", Some("byte")),
            Kind::Boolean => ("boolean", None),
            Kind::Integer if node.wire == crate::schema::graph::Wire::Int32 => {
                ("integer", Some("int32"))
            }
            Kind::Integer => ("integer", Some("int64")),
            Kind::Number => ("number", Some("double")),
            _ => ("object", None),
        };
        schema.insert("type".into(), name.into());
        if let Some(format) = format {
            schema.insert("format".into(), format.into());
        }
        if node.child != NONE && matches!(node.kind, Kind::Array | Kind::Map) {
            let key = if node.kind == Kind::Array { "items" } else { "additionalProperties" };
            let child = self.value(node.child);
            schema.insert(key.into(), Value::Object(child));
        }
        if let Some(facets) = graph.facets(node)
            && !facets.enum_values.is_empty()
        {
            schema.insert("enum".into(), Value::Array(facets.enum_values.to_vec()));
        }
        schema
    }
}

fn describe(schema: &mut Map<String, Value>, description: &str) {
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
}

fn map_type(node: &Node, schema: &mut Map<String, Value>) {
    for (flag, name) in [(flag::ATOMIC_MAP, "atomic"), (flag::GRANULAR_MAP, "granular")] {
        if node.has(flag) {
            schema.insert("x-kubernetes-map-type".into(), name.into());
        }
    }
}

/// The default of a field: the one given, or the zero value of a field that is always there.
fn published_default(node: &Node, facets: Option<&Facets>, field: &Field) -> Option<Value> {
    if !node.has(flag::DEFAULT_HIDDEN)
        && let Some(default) = facets.and_then(|facets| facets.default.as_ref())
    {
        return Some(default.clone());
    }
    if field.has(field::POINTER) {
        return None;
    }
    match node.kind {
        Kind::Object => Some(json!({})),
        _ if field.has(field::OMIT_EMPTY) => None,
        Kind::String => Some("".into()),
        Kind::Boolean => Some(false.into()),
        Kind::Integer | Kind::Number => Some(0.into()),
        _ => None,
    }
}
