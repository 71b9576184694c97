//! Storage of a schema: nodes, fields and names in flat arrays, so that a graph of thousands of
//! fields costs a few allocations and recursive types need no reference counting.

use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

/// What a value is, as far as the API machinery treats values differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An object with named fields.
    Object,
    /// An object whose keys are data, all values having one schema.
    Map,
    /// A list whose items have one schema.
    Array,
    /// A string.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A whole number or a string, as in a Service's `targetPort`.
    IntOrString,
    /// An amount such as `100m` or `1Gi`.
    Quantity,
    /// A point in time of whole seconds, RFC 3339.
    Time,
    /// A point in time of microseconds, RFC 3339.
    MicroTime,
    /// A Go duration such as `1h30m`.
    Duration,
    /// Bytes, base64 in JSON.
    Bytes,
    /// An object of any kind, kept as it came.
    RawExtension,
    /// The set of fields of a managedFields entry, kept as it came.
    FieldsV1,
    /// Any JSON value.
    Any,
}

/// How a list is merged (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects identified by the values of their key fields.
    Map,
}

/// What strategic merge patch does with a value (the Go tag `patchStrategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PatchStrategy {
    /// A list is merged item by item, by its merge key or as a set of scalars.
    pub merge: bool,
    /// The value is replaced, also where it is a map.
    pub replace: bool,
    /// A patch may carry `$retainKeys`: other fields of the object are cleared.
    pub retain_keys: bool,
}

/// A node by its place in a graph. The top bit says that it is one of the built-in graph, as the
/// `metadata` of a custom resource is.
pub(crate) type NodeId = u32;

/// No node, no facets.
pub(crate) const NONE: u32 = u32::MAX;

/// Marks a node of the built-in graph that another graph points to.
pub(crate) const BUILTIN: u32 = 1 << 31;

/// Yes-or-no facts of a node.
pub(crate) mod flag {
    pub(crate) const ATOMIC_MAP: u16 = 1;
    pub(crate) const NULLABLE: u16 = 1 << 1;
    pub(crate) const PRESERVE_UNKNOWN: u16 = 1 << 2;
    pub(crate) const EMBEDDED_RESOURCE: u16 = 1 << 3;
    pub(crate) const MERGE: u16 = 1 << 4;
    pub(crate) const REPLACE: u16 = 1 << 5;
    pub(crate) const RETAIN_KEYS: u16 = 1 << 6;
    /// The list type was given, not merely left to be atomic.
    pub(crate) const LIST_TYPE_GIVEN: u16 = 1 << 7;
    /// The map type was given as granular.
    pub(crate) const GRANULAR_MAP: u16 = 1 << 8;
    /// This value or one below it may have a default.
    pub(crate) const DEFAULTS_BELOW: u16 = 1 << 9;
    /// The default is upstream's code's, not part of the published schema.
    pub(crate) const DEFAULT_HIDDEN: u16 = 1 << 10;
}

/// How a value is written in protobuf, where its kind does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Wire {
    /// As its kind says.
    #[default]
    Plain,
    /// A varint of 32 bits.
    Int32,
    /// A list that is a message with the list as its field 1.
    WrappedList,
    /// Raw JSON as field 1 of a message.
    RawJson,
    /// `JSONSchemaPropsOrBool`: a boolean or a schema.
    SchemaOrBool,
    /// `JSONSchemaPropsOrArray`: a schema or a list of schemas.
    SchemaOrArray,
    /// `JSONSchemaPropsOrStringArray`: a schema or a list of names.
    SchemaOrNames,
}

/// One value's schema.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) list_type: ListType,
    pub(crate) wire: Wire,
    pub(crate) flags: u16,
    /// An object's fields: `fields[first..first + len]`, sorted by name.
    pub(crate) first: u32,
    pub(crate) len: u32,
    /// A list's items, a map's values, or the node that stands for an object's Go type.
    pub(crate) child: NodeId,
    /// What few nodes have.
    pub(crate) facets: u32,
    /// The Go type as the table writes it, by its place in `Graph::go_types`.
    pub(crate) go_type: u32,
}

impl Node {
    pub(crate) fn new(kind: Kind) -> Node {
        Node {
            kind,
            list_type: ListType::Atomic,
            wire: Wire::Plain,
            flags: 0,
            first: 0,
            len: 0,
            child: NONE,
            facets: NONE,
            go_type: NONE,
        }
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Facts of a field: what Go's encoding of it does with a value that is not there.
pub(crate) mod field {
    pub(crate) const OMIT_EMPTY: u8 = 1;
    pub(crate) const OMIT_ZERO: u8 = 1 << 1;
    pub(crate) const REQUIRED: u8 = 1 << 2;
    pub(crate) const POINTER: u8 = 1 << 3;
    /// A field of a struct that is inlined in JSON and a message of its own in protobuf.
    pub(crate) const INLINED: u8 = 1 << 4;
    /// Go writes something where the value is absent.
    pub(crate) const ALWAYS_WRITTEN: u8 = 1 << 5;
}

/// A named field of an object.
#[derive(Clone)]
pub(crate) struct Field {
    name: u32,
    name_len: u16,
    /// Its number in protobuf, 0 where it has none in the message of the object.
    pub(crate) number: u16,
    /// Its line in the table of descriptions.
    pub(crate) description: u16,
    pub(crate) flags: u8,
    pub(crate) node: NodeId,
}

impl Field {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A field on its way into a graph.
pub(crate) struct NewField<'a> {
    pub(crate) name: &'a str,
    pub(crate) number: u16,
    pub(crate) description: u16,
    pub(crate) flags: u8,
    pub(crate) node: NodeId,
}

/// What only some nodes have.
#[derive(Default)]
pub(crate) struct Facets {
    pub(crate) default: Option<Value>,
    pub(crate) format: Option<Box<str>>,
    pub(crate) type_name: Option<Box<str>>,
    /// `x-kubernetes-unions`, as JSON.
    pub(crate) unions: Option<Box<str>>,
    pub(crate) enum_values: Box<[Value]>,
    pub(crate) list_map_keys: Box<[Box<str>]>,
    pub(crate) merge_key: Option<Box<str>>,
    /// Inlined structs: their number in protobuf and their type.
    pub(crate) inlined: Box<[(u16, NodeId)]>,
    /// The line of the type in the table of descriptions.
    pub(crate) description: u16,
    pub(crate) validation: Option<Box<Validation>>,
}

/// The bounds on a custom resource's value that OpenAPI can express.
#[derive(Default)]
pub(crate) struct Validation {
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) max_length: Option<i64>,
    pub(crate) min_length: Option<i64>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) max_items: Option<i64>,
    pub(crate) min_items: Option<i64>,
    pub(crate) unique_items: bool,
    pub(crate) max_properties: Option<i64>,
    pub(crate) min_properties: Option<i64>,
    pub(crate) required: Vec<Box<str>>,
    pub(crate) all_of: Vec<NodeId>,
    pub(crate) any_of: Vec<NodeId>,
    pub(crate) one_of: Vec<NodeId>,
    pub(crate) not: Option<NodeId>,
    /// What the schema says of `apiVersion`, `kind` and `metadata` beyond their types.
    pub(crate) object_meta: Option<NodeId>,
    /// `x-kubernetes-validations`, as given.
    pub(crate) rules: Option<Value>,
}

/// A regular expression that is compiled when it is first needed.
pub(crate) struct Pattern {
    pub(crate) text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Pattern {
        Pattern { text: text.into(), compiled: OnceLock::new() }
    }

    /// None where the expression cannot be compiled.
    pub(crate) fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| Regex::new(&self.text).ok()).as_ref()
    }
}

/// A schema with everything that it refers to.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) fields: Vec<Field>,
    pub(crate) facets: Vec<Facets>,
    /// Go's names of the built-in types.
    pub(crate) go_types: Vec<Box<str>>,
    /// Whether values are read as Go reads them into structs, and not as free JSON.
    pub(crate) typed: bool,
    pub(crate) names: String,
}

impl Graph {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The graph and the place in it of a node that this graph refers to.
    pub(crate) fn resolve(&self, id: NodeId) -> (&Graph, NodeId) {
        if id & BUILTIN != 0 { (super::builtin::graph(), id & !BUILTIN) } else { (self, id) }
    }

    pub(crate) fn facets(&self, node: &Node) -> Option<&Facets> {
        self.facets.get(node.facets as usize)
    }

    /// The facets of the Go type of an object, which all its uses share.
    pub(crate) fn type_facets(&self, node: &Node) -> Option<&Facets> {
        let shared = node.kind == Kind::Object && node.child != NONE;
        self.facets(if shared { self.node(node.child) } else { node })
    }

    pub(crate) fn validation(&self, node: &Node) -> Option<&Validation> {
        self.facets(node)?.validation.as_deref()
    }

    pub(crate) fn fields(&self, node: &Node) -> &[Field] {
        &self.fields[node.first as usize..(node.first + node.len) as usize]
    }

    pub(crate) fn name(&self, field: &Field) -> &str {
        &self.names[field.name as usize..field.name as usize + usize::from(field.name_len)]
    }

    /// The place of a field among those of its object.
    pub(crate) fn position(&self, node: &Node, name: &str) -> Option<usize> {
        self.fields(node).binary_search_by(|f| self.name(f).cmp(name)).ok()
    }

    pub(crate) fn field(&self, node: &Node, name: &str) -> Option<&Field> {
        self.position(node, name).map(|at| &self.fields(node)[at])
    }

    /// The Go type of a value as Go's messages name it: `v1.PodSpec`, `map[string]string`.
    pub(crate) fn go_type(&self, node: &Node) -> String {
        let name = self.go_types.get(node.go_type as usize).map_or("", |name| name);
        let mut out = String::new();
        for (i, part) in name.split('/').enumerate() {
            if i > 0 {
                // The table writes `core/v1.Pod` where Go only writes the package's own name.
                let path = out.rfind(['[', ']', '*']).map_or(0, |at| at + 1);
                out.truncate(path);
            }
            out.push_str(part);
        }
        match out.strip_suffix("any") {
            Some(rest) if rest.is_empty() || rest.ends_with(']') => format!("{rest}interface {{}}"),
            _ => out,
        }
    }

    pub(crate) fn add_node(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    pub(crate) fn add_facets(&mut self, facets: Facets) -> u32 {
        self.facets.push(facets);
        (self.facets.len() - 1) as u32
    }

    /// Stores the fields of one object and returns where they are.
    pub(crate) fn add_fields(&mut self, mut named: Vec<NewField<'_>>) -> (u32, u32) {
        named.sort_unstable_by_key(|field| field.name);
        let first = self.fields.len() as u32;
        for new in named {
            let name = self.names.len() as u32;
            self.names.push_str(new.name);
            self.fields.push(Field {
                name,
                name_len: u16::try_from(new.name.len()).unwrap_or(u16::MAX),
                number: new.number,
                description: new.description,
                flags: new.flags,
                node: new.node,
            });
        }
        (first, self.fields.len() as u32 - first)
    }

    /// Marks the nodes at or below which a default may have to be set, so that defaulting can
    /// pass by the others. Loops until nothing changes, because types may contain themselves.
    pub(crate) fn mark_defaults(&mut self) {
        loop {
            let mut changed = false;
            for id in 0..self.nodes.len() {
                let node = &self.nodes[id];
                if node.has(flag::DEFAULTS_BELOW) {
                    continue;
                }
                let below = |id: NodeId| {
                    id & BUILTIN == 0 && id != NONE && self.node(id).has(flag::DEFAULTS_BELOW)
                };
                let found = self.facets(node).is_some_and(|f| f.default.is_some())
                    || node.kind != Kind::Object && below(node.child)
                    || self.fields(node).iter().any(|field| below(field.node));
                if found {
                    self.nodes[id].flags |= flag::DEFAULTS_BELOW;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }
}
