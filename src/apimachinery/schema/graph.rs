//! Storage of a schema: nodes, fields and names in flat arrays, so that a graph of thousands of
//! fields costs a few allocations and recursive types need no reference counting.

use std::sync::OnceLock;

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
pub(super) type NodeId = u32;

/// No node, no facets.
pub(super) const NONE: u32 = u32::MAX;

/// Marks a node of the built-in graph that another graph points to.
pub(super) const BUILTIN: u32 = 1 << 31;

/// Yes-or-no facts of a node.
pub(super) mod flag {
    pub(crate) const ATOMIC_MAP: u16 = 1;
    pub(crate) const NULLABLE: u16 = 1 << 1;
    pub(crate) const PRESERVE_UNKNOWN: u16 = 1 << 2;
    pub(crate) const EMBEDDED_RESOURCE: u16 = 1 << 3;
    pub(crate) const MERGE: u16 = 1 << 4;
    pub(crate) const REPLACE: u16 = 1 << 5;
    pub(crate) const RETAIN_KEYS: u16 = 1 << 6;
}

/// One value's schema.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) list_type: ListType,
    pub(super) flags: u16,
    /// An object's fields: `fields[first..first + len]`, sorted by name.
    pub(super) first: u32,
    pub(super) len: u32,
    /// A list's items or a map's values.
    pub(super) child: NodeId,
    /// What few nodes have.
    pub(super) facets: u32,
}

impl Node {
    pub(super) fn new(kind: Kind) -> Node {
        Node {
            kind,
            list_type: ListType::Atomic,
            flags: 0,
            first: 0,
            len: 0,
            child: NONE,
            facets: NONE,
        }
    }

    pub(super) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A named field of an object.
#[derive(Clone)]
pub(super) struct Field {
    name: u32,
    name_len: u16,
    pub(super) node: NodeId,
}

/// What only some nodes have.
#[derive(Clone, Default)]
pub(super) struct Facets {
    pub(super) default: Option<Value>,
    pub(super) format: Option<Box<str>>,
    pub(super) type_name: Option<Box<str>>,
    pub(super) enum_values: Vec<Value>,
    pub(super) list_map_keys: Vec<Box<str>>,
    pub(super) merge_key: Option<Box<str>>,
    pub(super) required: Vec<Box<str>>,
    pub(super) rules: Option<Value>,
    pub(super) validation: Option<Box<Validation>>,
}

/// The bounds on a value that OpenAPI can express.
#[derive(Clone, Default)]
pub(super) struct Validation {
    pub(super) maximum: Option<f64>,
    pub(super) exclusive_maximum: bool,
    pub(super) minimum: Option<f64>,
    pub(super) exclusive_minimum: bool,
    pub(super) multiple_of: Option<f64>,
    pub(super) max_length: Option<i64>,
    pub(super) min_length: Option<i64>,
    pub(super) pattern: Option<Box<str>>,
    pub(super) max_items: Option<i64>,
    pub(super) min_items: Option<i64>,
    pub(super) unique_items: bool,
    pub(super) max_properties: Option<i64>,
    pub(super) min_properties: Option<i64>,
    pub(super) all_of: Vec<NodeId>,
    pub(super) any_of: Vec<NodeId>,
    pub(super) one_of: Vec<NodeId>,
    pub(super) not: Option<NodeId>,
}

/// A schema with everything that it refers to.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) fields: Vec<Field>,
    pub(super) facets: Vec<Facets>,
    names: String,
}

impl Graph {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn facets(&self, node: &Node) -> Option<&Facets> {
        self.facets.get(node.facets as usize)
    }

    pub(super) fn fields(&self, node: &Node) -> &[Field] {
        &self.fields[node.first as usize..(node.first + node.len) as usize]
    }

    pub(super) fn name(&self, field: &Field) -> &str {
        &self.names[field.name as usize..field.name as usize + usize::from(field.name_len)]
    }

    pub(super) fn field(&self, node: &Node, name: &str) -> Option<&Field> {
        let fields = self.fields(node);
        fields.binary_search_by(|f| self.name(f).cmp(name)).ok().map(|i| &fields[i])
    }

    pub(super) fn add_node(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    pub(super) fn add_facets(&mut self, facets: Facets) -> u32 {
        self.facets.push(facets);
        (self.facets.len() - 1) as u32
    }

    /// Stores the fields of one object and returns where they are.
    pub(super) fn add_fields(&mut self, mut named: Vec<(&str, NodeId)>) -> (u32, u32) {
        named.sort_unstable_by_key(|(name, _)| *name);
        let first = self.fields.len() as u32;
        for (name, node) in named {
            let at = self.names.len() as u32;
            self.names.push_str(name);
            let name_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
            self.fields.push(Field { name: at, name_len, node });
        }
        (first, self.fields.len() as u32 - first)
    }
}

/// The graph of the built-in kinds.
pub(super) fn builtin() -> &'static Graph {
    static GRAPH: OnceLock<Graph> = OnceLock::new();
    GRAPH.get_or_init(Graph::default)
}
