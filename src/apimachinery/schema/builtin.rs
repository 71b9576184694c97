//! The schemas of the built-in kinds, read from the table of facts in `embedded/schema`, when
//! they are first asked for.

use std::{collections::HashMap, io::Read, sync::OnceLock};

use flate2::read::DeflateDecoder;
use serde_json::Value;

use super::{
    Schema,
    graph::{Facets, Graph, Kind, ListType, NONE, NewField, Node, NodeId, Wire, field, flag},
    table::{Declaration, Declarations},
};

static TYPES: &str = include_str!("../../../embedded/schema/types.txt");
static DEFAULTS: &str = include_str!("../../../embedded/schema/defaults.txt");
static RESOURCES: &str = include_str!("../../../embedded/schema/resources.txt");
/// Most of the table, and seldom read: compressed.
static DESCRIPTIONS: &[u8] = include_bytes!("../../../embedded/schema/descriptions.deflate");

/// The schema of a kind that is built in, such as `builtin("apps", "v1", "Deployment")`.
pub fn builtin(group: &str, version: &str, kind: &str) -> Option<Schema> {
    let table = table();
    let api_version = crate::resource::join_api_version(group, version);
    let find = |name: &str| {
        let at = table.kinds.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(Schema::builtin(table.kinds[at].1))
    };
    // Options and watch events are the same kind in every group version.
    find(&format!("{api_version}:{kind}")).or_else(|| find(&format!("*:{kind}")))
}

/// The schema of a built-in type by its OpenAPI name, such as `io.k8s.api.core.v1.PodSpec`.
pub fn builtin_type(name: &str) -> Option<Schema> {
    let graph = graph();
    let named = |n: &Node| graph.facets(n).is_some_and(|f| f.type_name.as_deref() == Some(name));
    graph.nodes.iter().position(named).map(|at| Schema::builtin(at as NodeId))
}

/// Every kind that is built in: its apiVersion, which is `*` for the kinds that every group
/// version has, its name and its schema.
pub fn builtin_kinds() -> impl Iterator<Item = (&'static str, &'static str, Schema)> {
    let kinds = table().kinds.iter();
    kinds.filter_map(|(name, node)| {
        let (api_version, kind) = name.split_once(':')?;
        Some((api_version, kind, Schema::builtin(*node)))
    })
}

pub(crate) fn graph() -> &'static Graph {
    &table().graph
}

/// The descriptions of the built-in types and fields, by line.
pub(crate) fn descriptions() -> String {
    let mut text = String::new();
    DeflateDecoder::new(DESCRIPTIONS)
        .read_to_string(&mut text)
        .expect("a test reads the descriptions");
    text
}

/// The table of resources.
pub(super) fn resource_table() -> &'static str {
    RESOURCES
}

/// The Go names of the inlined structs through which a type has a field, outermost first: part
/// of the field's path in Go's messages. Reads the table again, for messages are rare.
pub(crate) fn inlined_path(go_type: &str, field: &str) -> Vec<String> {
    let declarations = Declarations::read(TYPES);
    let mut path = Vec::new();
    declarations.inlined_path(go_type, field, &mut path);
    path
}

struct Table {
    graph: Graph,
    /// `apps/v1:Deployment`, sorted.
    kinds: Vec<(Box<str>, NodeId)>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| load(TYPES, DEFAULTS))
}

fn load(types: &str, defaults: &str) -> Table {
    let declarations = Declarations::read(types);
    let mut build = Build {
        graph: Graph { typed: true, ..Graph::default() },
        declarations: &declarations,
        hidden: defaults
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' '))
            .collect(),
        go_types: HashMap::new(),
        shared: HashMap::new(),
    };
    // The types come first, so that references to them are known before they are filled.
    for name in &declarations.structs {
        let mut node = Node::new(Kind::Object);
        node.go_type = build.go_type(name);
        build.graph.add_node(node);
    }
    let mut kinds = Vec::new();
    for name in &declarations.structs {
        build.fill(name, &mut kinds);
    }
    kinds.sort();
    build.finish(kinds)
}

struct Build<'a> {
    graph: Graph,
    declarations: &'a Declarations<'a>,
    /// `core/v1.PodSpec.restartPolicy` to JSON.
    hidden: HashMap<&'a str, &'a str>,
    go_types: HashMap<&'a str, u32>,
    /// Nodes without facets, each kept once.
    shared: HashMap<Node, NodeId>,
}

impl<'a> Build<'a> {
    fn go_type(&mut self, name: &'a str) -> u32 {
        let graph = &mut self.graph;
        *self.go_types.entry(name).or_insert_with(|| {
            graph.go_types.push(name.into());
            (graph.go_types.len() - 1) as u32
        })
    }

    /// Fills the node of a struct.
    fn fill(&mut self, name: &'a str, kinds: &mut Vec<(Box<str>, NodeId)>) {
        let declarations = self.declarations;
        let Some(Declaration::Struct { facts, line, node: id, lines }) =
            declarations.types.get(name)
        else {
            return;
        };
        let mut members = Vec::new();
        declarations.members(name, 0, &mut members);
        let fields = members.iter().filter_map(|&(member, description, depth)| {
            let mut field = self.field(name, member)?;
            field.description = description;
            if depth > 0 {
                (field.number, field.flags) = (0, field.flags | field::INLINED);
            }
            Some(field)
        });
        let fields = fields.collect();
        let (first, len) = self.graph.add_fields(fields);

        let mut facets = Facets { type_name: declarations.type_name(name), ..Facets::default() };
        facets.description = *line;
        facets.inlined = lines
            .iter()
            .filter_map(|line| line.strip_prefix("+ ")?.split_once(' '))
            .filter_map(|(number, inlined)| match declarations.types.get(inlined) {
                Some(Declaration::Struct { node, .. }) => Some((number.parse().ok()?, *node)),
                _ => None,
            })
            .collect();
        let mut flags = 0;
        for fact in facts.split(' ') {
            match fact.split_once('=') {
                Some(("g", all)) => {
                    kinds.extend(all.split(',').map(|kind| (kind.into(), *id)));
                }
                Some(("m", "atomic")) => flags |= flag::ATOMIC_MAP,
                Some(("m", _)) => flags |= flag::GRANULAR_MAP,
                Some(("u", unions)) => facets.unions = Some(unions.into()),
                _ => {}
            }
        }
        let facets = self.graph.add_facets(facets);
        let node = &mut self.graph.nodes[*id as usize];
        (node.first, node.len, node.facets, node.child) = (first, len, facets, *id);
        node.flags |= flags;
    }

    /// One field of a struct, from its line.
    fn field(&mut self, owner: &str, member: &'a str) -> Option<NewField<'a>> {
        let mut parts = member.split(' ');
        let (name, number, go_type) = (parts.next()?, parts.next()?, parts.next()?);
        let (go_type, mut flags) = match go_type.strip_prefix('*') {
            Some(target) => (target, field::POINTER),
            None => (go_type, 0),
        };
        let (mut node, mut facets) = self.value(go_type);
        for fact in parts {
            match fact.split_once('=') {
                None if fact == "e" => flags |= field::OMIT_EMPTY,
                None if fact == "z" => flags |= field::OMIT_ZERO,
                None if fact == "r" => flags |= field::REQUIRED,
                Some(("p", patch)) => {
                    let (strategy, key) = patch.split_once(':').unwrap_or((patch, ""));
                    for strategy in strategy.split(',') {
                        node.flags |= match strategy {
                            "merge" => flag::MERGE,
                            "replace" => flag::REPLACE,
                            "retainKeys" => flag::RETAIN_KEYS,
                            _ => 0,
                        };
                    }
                    if !key.is_empty() {
                        facets.get_or_insert_default().merge_key = Some(key.into());
                    }
                }
                Some(("l", list)) => {
                    node.flags |= flag::LIST_TYPE_GIVEN;
                    let (list, keys) = list.split_once(':').unwrap_or((list, ""));
                    node.list_type = match list {
                        "set" => ListType::Set,
                        "map" => ListType::Map,
                        _ => ListType::Atomic,
                    };
                    if !keys.is_empty() {
                        let keys = keys.split(',').map(Into::into).collect();
                        facets.get_or_insert_default().list_map_keys = keys;
                    }
                }
                Some(("m", "atomic")) => node.flags |= flag::ATOMIC_MAP,
                Some(("m", _)) => node.flags |= flag::GRANULAR_MAP,
                Some(("d", default)) => {
                    facets.get_or_insert_default().default = json(default);
                }
                _ => {}
            }
        }
        // The table of hidden defaults names a field by the struct that has it in JSON.
        let place = format!("{owner}.{name}");
        match self.hidden.get(place.as_str()) {
            Some(&"-") => node.flags &= !flag::DEFAULTS_BELOW,
            Some(default) => {
                facets.get_or_insert_default().default = json(default);
                node.flags |= flag::DEFAULT_HIDDEN;
            }
            None => {}
        }
        if always_written(node.kind, flags) {
            flags |= field::ALWAYS_WRITTEN;
        }
        let node = self.keep(node, facets);
        let number = number.parse().unwrap_or(0);
        Some(NewField { name, number, description: 0, flags, node })
    }

    /// A node for a value of a Go type, with what facets it needs.
    fn value(&mut self, go_type: &'a str) -> (Node, Option<Facets>) {
        let declarations = self.declarations;
        let mut facets = None;
        let mut node = if let Some(items) = go_type.strip_prefix("[]") {
            if items == "uint8" {
                Node::new(Kind::Bytes)
            } else {
                let mut node = Node::new(Kind::Array);
                node.child = self.child(items);
                node
            }
        } else if let Some((_, values)) =
            go_type.strip_prefix("map[").and_then(|rest| rest.split_once(']'))
        {
            let mut node = Node::new(Kind::Map);
            node.child = self.child(values);
            node
        } else {
            match go_type {
                "string" => Node::new(Kind::String),
                "bool" => Node::new(Kind::Boolean),
                "int32" => Node { wire: Wire::Int32, ..Node::new(Kind::Integer) },
                "int64" => Node::new(Kind::Integer),
                "float64" => Node::new(Kind::Number),
                _ => match declarations.types.get(go_type) {
                    Some(Declaration::Struct { node, .. }) => {
                        let mut use_of = self.graph.node(*node).clone();
                        use_of.child = *node;
                        use_of
                    }
                    Some(Declaration::Text { values }) => {
                        if let Some(Value::Array(values)) = json(&format!("[{values}]"))
                            && !values.is_empty()
                        {
                            facets =
                                Some(Facets { enum_values: values.into(), ..Facets::default() });
                        }
                        Node::new(Kind::String)
                    }
                    Some(Declaration::Alias { target, message }) => {
                        let (mut node, inner) = self.value(target);
                        facets = inner;
                        if *message {
                            node.wire = Wire::WrappedList;
                        }
                        node
                    }
                    Some(Declaration::Opaque { line }) => {
                        facets = Some(Facets {
                            type_name: declarations.type_name(go_type),
                            description: *line,
                            ..Facets::default()
                        });
                        opaque(go_type)
                    }
                    None => Node::new(Kind::Any),
                },
            }
        };
        if go_type == RESOURCE_LIST {
            node.flags |= flag::DEFAULTS_BELOW;
        }
        node.go_type = self.go_type(go_type);
        (node, facets)
    }

    fn child(&mut self, go_type: &'a str) -> NodeId {
        let (node, facets) = self.value(go_type.trim_start_matches('*'));
        self.keep(node, facets)
    }

    /// The place of a node. Plain uses of a struct are the struct's own node.
    fn keep(&mut self, mut node: Node, facets: Option<Facets>) -> NodeId {
        if node.kind == Kind::Object {
            let target = self.graph.node(node.child);
            if facets.is_none() && node.flags == target.flags && node.list_type == target.list_type
            {
                return node.child;
            }
            // The fields of the struct may not be known yet: finish() copies them.
            (node.first, node.len, node.facets) = (0, 0, NONE);
        }
        let plain = facets.as_ref().is_none_or(|f| f.default.is_none() && node.kind != Kind::Array);
        match facets {
            Some(facets) if !plain || !facets.list_map_keys.is_empty() => {
                node.facets = self.graph.add_facets(facets);
                self.graph.add_node(node)
            }
            facets => {
                if let Some(id) = self.shared.get(&node) {
                    return *id;
                }
                let key = node.clone();
                if let Some(facets) = facets {
                    node.facets = self.graph.add_facets(facets);
                }
                let id = self.graph.add_node(node);
                self.shared.insert(key, id);
                id
            }
        }
    }

    fn finish(mut self, kinds: Vec<(Box<str>, NodeId)>) -> Table {
        for id in self.declarations.structs.len()..self.graph.nodes.len() {
            let node = &self.graph.nodes[id];
            if node.kind == Kind::Object {
                let target = self.graph.node(node.child);
                let (first, len, flags) = (target.first, target.len, target.flags);
                let node = &mut self.graph.nodes[id];
                (node.first, node.len) = (first, len);
                node.flags |= flags;
            }
        }
        self.graph.mark_defaults();
        let graph = &mut self.graph;
        graph.nodes.shrink_to_fit();
        graph.fields.shrink_to_fit();
        graph.facets.shrink_to_fit();
        graph.go_types.shrink_to_fit();
        Table { graph: self.graph, kinds }
    }
}

/// The maps of quantities that defaulting rounds.
const RESOURCE_LIST: &str = "core/v1.ResourceList";

/// A type with a JSON form of its own.
fn opaque(go_type: &str) -> Node {
    let (kind, wire) = match go_type {
        "meta/v1.Time" => (Kind::Time, Wire::Plain),
        "meta/v1.MicroTime" => (Kind::MicroTime, Wire::Plain),
        "meta/v1.Duration" => (Kind::Duration, Wire::Plain),
        "meta/v1.FieldsV1" => (Kind::FieldsV1, Wire::RawJson),
        "resource.Quantity" => (Kind::Quantity, Wire::Plain),
        "intstr.IntOrString" => (Kind::IntOrString, Wire::Plain),
        "runtime.RawExtension" => (Kind::RawExtension, Wire::RawJson),
        "apiextensions/v1.JSONSchemaPropsOrBool" => (Kind::Any, Wire::SchemaOrBool),
        "apiextensions/v1.JSONSchemaPropsOrArray" => (Kind::Any, Wire::SchemaOrArray),
        "apiextensions/v1.JSONSchemaPropsOrStringArray" => (Kind::Any, Wire::SchemaOrNames),
        _ => (Kind::Any, Wire::RawJson),
    };
    Node { wire, ..Node::new(kind) }
}

/// Whether Go writes a field that was never set: `omitempty` does not hold for structs.
fn always_written(kind: Kind, flags: u8) -> bool {
    let omitted = flags & field::OMIT_ZERO != 0
        || flags & field::OMIT_EMPTY != 0
            && (flags & field::POINTER != 0
                || !matches!(
                    kind,
                    Kind::Object
                        | Kind::Quantity
                        | Kind::Time
                        | Kind::MicroTime
                        | Kind::Duration
                        | Kind::IntOrString
                        | Kind::RawExtension
                ));
    !omitted
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::PatchStrategy;

    fn pod_spec() -> Schema {
        builtin("", "v1", "Pod").unwrap().field("spec").unwrap()
    }

    #[test]
    fn knows_well_known_fields() {
        let spec = pod_spec();
        assert_eq!(spec.type_name(), Some("io.k8s.api.core.v1.PodSpec"));
        let merge = PatchStrategy { merge: true, ..PatchStrategy::default() };
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.list_type(), ListType::Map);
        assert_eq!(containers.list_map_keys().collect::<Vec<_>>(), ["name"]);
        assert_eq!(containers.patch_merge_key(), Some("name"));
        assert_eq!(containers.patch_strategy(), merge);
        assert_eq!(spec.required().collect::<Vec<_>>(), ["containers"]);

        let container = containers.items().unwrap();
        let ports = container.field("ports").unwrap();
        assert_eq!(ports.list_map_keys().collect::<Vec<_>>(), ["containerPort", "protocol"]);
        assert_eq!(ports.patch_merge_key(), Some("containerPort"));
        let port = ports.items().unwrap();
        assert_eq!(port.field("protocol").unwrap().default(), json(r#""TCP""#).as_ref());
        assert_eq!(port.field("containerPort").unwrap().format(), Some("int32"));
        let policy = container.field("imagePullPolicy").unwrap();
        assert_eq!(policy.enum_values(), ["Always", "IfNotPresent", "Never"]);
        assert_eq!(container.field("args").unwrap().list_type(), ListType::Atomic);
        let limits = container.field("resources").unwrap().field("limits").unwrap();
        assert_eq!(limits.values().unwrap().kind(), Kind::Quantity);

        let volumes = spec.field("volumes").unwrap();
        assert_eq!(volumes.patch_strategy(), PatchStrategy { retain_keys: true, ..merge });
        // Inlined structs are part of the object.
        let volume = volumes.items().unwrap();
        assert!(volume.field("hostPath").is_some() && volume.field("VolumeSource").is_none());
        assert!(spec.field("nodeSelector").unwrap().is_atomic_map());
    }

    #[test]
    fn knows_the_special_types() {
        let kind = |group, version, kind, path: &[&str]| {
            let mut at = builtin(group, version, kind).unwrap();
            for step in path {
                at = match *step {
                    "[]" => at.items().unwrap(),
                    "{}" => at.values().unwrap(),
                    name => at.field(name).unwrap_or_else(|| panic!("no {name} in {path:?}")),
                };
            }
            at.kind()
        };
        let meta = |field| kind("", "v1", "Secret", &["metadata", field]);
        assert_eq!(meta("creationTimestamp"), Kind::Time);
        assert_eq!(meta("generation"), Kind::Integer);
        let fields = ["metadata", "managedFields", "[]", "fieldsV1"];
        assert_eq!(kind("", "v1", "Secret", &fields), Kind::FieldsV1);
        assert_eq!(kind("", "v1", "Secret", &["data", "{}"]), Kind::Bytes);
        assert_eq!(
            kind("coordination.k8s.io", "v1", "Lease", &["spec", "renewTime"]),
            Kind::MicroTime
        );
        let port = ["spec", "ports", "[]", "targetPort"];
        assert_eq!(kind("", "v1", "Service", &port), Kind::IntOrString);
        assert_eq!(kind("apps", "v1", "ControllerRevision", &["data"]), Kind::RawExtension);
        assert_eq!(kind("meta.k8s.io", "v1", "Table", &["rows", "[]", "cells", "[]"]), Kind::Any);
        let replicas = ["spec", "replicas"];
        assert_eq!(kind("autoscaling", "v1", "Scale", &replicas), Kind::Integer);
        // Types may contain themselves.
        let schema = ["spec", "versions", "[]", "schema", "openAPIV3Schema", "properties", "{}"];
        assert_eq!(
            kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", &schema),
            Kind::Object
        );
    }

    #[test]
    fn knows_options_of_every_group_version() {
        for kind in ["DeleteOptions", "PatchOptions", "WatchEvent"] {
            assert!(builtin("apps", "v1", kind).is_some() && builtin("", "v1", kind).is_some());
        }
        assert!(builtin("", "v1", "Status").is_some() && builtin("", "v1", "List").is_some());
        assert!(builtin("apps", "v2", "Deployment").is_none());
    }

    #[test]
    fn names_go_types() {
        let spec = pod_spec();
        let name = |schema: &Schema| schema.graph().go_type(schema.node());
        assert_eq!(name(&spec), "v1.PodSpec");
        assert_eq!(name(&spec.field("containers").unwrap()), "[]v1.Container");
        assert_eq!(name(&spec.field("nodeSelector").unwrap()), "map[string]string");
        assert_eq!(name(&spec.field("overhead").unwrap()), "v1.ResourceList");
        let cells = builtin("meta.k8s.io", "v1", "TableRow");
        assert!(cells.is_none(), "not a kind");
        assert_eq!(inlined_path("core/v1.Volume", "hostPath"), ["VolumeSource"]);
        assert_eq!(inlined_path("core/v1.Volume", "name"), [""; 0]);
    }

    #[test]
    fn hidden_defaults_have_their_fields() {
        let graph = graph();
        let lines = || DEFAULTS.lines().filter(|line| !line.starts_with('#'));
        for line in lines() {
            let (place, default) = line.split_once(' ').unwrap();
            let (go_type, field) = place.rsplit_once('.').unwrap();
            let node = graph.nodes.iter().find(|node| {
                node.kind == Kind::Object && *graph.go_types[node.go_type as usize] == *go_type
            });
            let node = node.unwrap_or_else(|| panic!("no type {go_type}"));
            let field = graph.field(node, field).unwrap_or_else(|| panic!("no field {place}"));
            if default == "-" {
                assert!(!graph.node(field.node).has(flag::DEFAULTS_BELOW), "{place}");
                continue;
            }
            let facets = graph.facets(graph.node(field.node)).unwrap();
            assert_eq!(facets.default, Some(json(default).unwrap()), "{place}");
        }
        assert!(lines().count() > 80);
    }

    #[test]
    fn every_type_and_field_has_its_line_of_description() {
        let text = include_str!("../../../embedded/schema/descriptions.txt");
        assert_eq!(descriptions(), text);
        let described = TYPES.lines().filter(|line| {
            let keyword = line.split(' ').next().unwrap_or_default();
            let field = line.starts_with(' ') && !line.starts_with(" +");
            field || matches!(keyword, "type" | "opaque")
        });
        assert_eq!(described.count(), text.lines().count());
        let pod = builtin("", "v1", "Pod").unwrap();
        let line = usize::from(graph().type_facets(pod.node()).unwrap().description);
        let expected = "Pod is a collection of containers that can run on a host. ";
        assert!(text.lines().nth(line).unwrap().starts_with(expected));
    }

    #[test]
    fn structs_have_no_more_fields_than_a_word_has_bits() {
        assert!(graph().nodes.iter().all(|node| node.len <= 128));
    }

    #[test]
    fn stays_small() {
        let table = table();
        let graph = &table.graph;
        let strings: usize = graph.go_types.iter().map(|name| name.len() + 16).sum();
        let facets = graph.facets.len() * size_of::<Facets>();
        let size = graph.nodes.len() * size_of::<Node>()
            + graph.fields.len() * size_of::<super::super::graph::Field>()
            + facets
            + strings;
        assert!(size < 500_000, "{size} bytes");
    }
}
