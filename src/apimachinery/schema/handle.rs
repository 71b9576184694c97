//! `Schema`: the handle through which everything else reads a schema.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{
    builtin,
    graph::{
        BUILTIN, Facets, Graph, Kind, ListType, NONE, Node, NodeId, PatchStrategy, Wire, field,
        flag,
    },
};

/// The schema of one value: a cheap handle to a node of a schema graph.
#[derive(Clone)]
pub struct Schema {
    graph: Owner,
    node: NodeId,
}

#[derive(Clone)]
enum Owner {
    Builtin(&'static Graph),
    Custom(Arc<Graph>),
}

impl Schema {
    pub(crate) fn custom(graph: Arc<Graph>, node: NodeId) -> Schema {
        Schema { graph: Owner::Custom(graph), node }
    }

    pub(crate) fn builtin(node: NodeId) -> Schema {
        Schema { graph: Owner::Builtin(builtin::graph()), node }
    }

    /// The place of the node in its graph.
    pub(crate) fn id(&self) -> NodeId {
        self.node
    }

    pub(crate) fn graph(&self) -> &Graph {
        match &self.graph {
            Owner::Builtin(graph) => graph,
            Owner::Custom(graph) => graph,
        }
    }

    pub(crate) fn node(&self) -> &Node {
        self.graph().node(self.node)
    }

    fn facets(&self) -> Option<&Facets> {
        self.graph().facets(self.node())
    }

    fn at(&self, node: NodeId) -> Option<Schema> {
        if node == NONE {
            return None;
        }
        if node & BUILTIN != 0 {
            return Some(Schema::builtin(node & !BUILTIN));
        }
        Some(Schema { graph: self.graph.clone(), node })
    }

    /// What the value is.
    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    /// The schema of an object's field of this name.
    pub fn field(&self, name: &str) -> Option<Schema> {
        let node = self.graph().field(self.node(), name)?.node;
        self.at(node)
    }

    /// An object's fields, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Schema)> {
        let graph = self.graph();
        let fields = graph.fields(self.node()).iter();
        fields.filter_map(move |f| Some((graph.name(f), self.at(f.node)?)))
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<Schema> {
        let node = self.node();
        if node.kind == Kind::Array { self.at(node.child) } else { None }
    }

    /// The schema of a map's values.
    pub fn values(&self) -> Option<Schema> {
        let node = self.node();
        if node.kind == Kind::Map { self.at(node.child) } else { None }
    }

    /// How a list is merged.
    pub fn list_type(&self) -> ListType {
        self.node().list_type
    }

    /// The fields that identify an item of a list of type map, in the order given.
    pub fn list_map_keys(&self) -> impl Iterator<Item = &str> {
        self.facets().into_iter().flat_map(|f| f.list_map_keys.iter().map(|k| &**k))
    }

    /// Whether an object or a map is replaced as a whole (`x-kubernetes-map-type: atomic`).
    pub fn is_atomic_map(&self) -> bool {
        self.node().has(flag::ATOMIC_MAP)
    }

    /// The field that identifies an item of a list in a strategic merge patch.
    pub fn patch_merge_key(&self) -> Option<&str> {
        self.facets()?.merge_key.as_deref()
    }

    /// What strategic merge patch does with the value.
    pub fn patch_strategy(&self) -> PatchStrategy {
        let node = self.node();
        PatchStrategy {
            merge: node.has(flag::MERGE),
            replace: node.has(flag::REPLACE),
            retain_keys: node.has(flag::RETAIN_KEYS),
        }
    }

    /// What the value is where none is given.
    pub fn default(&self) -> Option<&Value> {
        self.facets()?.default.as_ref()
    }

    /// Whether `null` is a value and not the absence of one.
    pub fn nullable(&self) -> bool {
        self.node().has(flag::NULLABLE)
    }

    /// The names of an object's fields that have to be there.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        let (graph, node) = (self.graph(), self.node());
        let given = graph.validation(node).into_iter().flat_map(|v| v.required.iter());
        let fields = graph.fields(node).iter().filter(|f| f.has(field::REQUIRED));
        given.map(|name| &**name).chain(fields.map(|f| graph.name(f)))
    }

    /// Whether fields that the schema does not name are kept.
    pub fn preserve_unknown_fields(&self) -> bool {
        self.node().has(flag::PRESERVE_UNKNOWN)
    }

    /// Whether the value is a Kubernetes object of its own, with `apiVersion`, `kind` and
    /// `metadata`.
    pub fn embedded_resource(&self) -> bool {
        self.node().has(flag::EMBEDDED_RESOURCE)
    }

    /// The only values allowed, if there are such; empty otherwise.
    pub fn enum_values(&self) -> &[Value] {
        self.facets().map_or(&[], |f| &f.enum_values)
    }

    /// The OpenAPI format, such as `int32` or `date-time`.
    pub fn format(&self) -> Option<&str> {
        let node = self.node();
        if !self.graph().typed {
            return self.facets()?.format.as_deref();
        }
        Some(match node.kind {
            Kind::Integer if node.wire == Wire::Int32 => "int32",
            Kind::Integer => "int64",
            Kind::Number => "double",
            Kind::Bytes => "byte",
            Kind::Time | Kind::MicroTime => "date-time",
            Kind::IntOrString => "int-or-string",
            _ => return None,
        })
    }

    /// The name of a built-in type, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn type_name(&self) -> Option<&str> {
        self.graph().type_facets(self.node())?.type_name.as_deref()
    }

    /// The CEL rules of a custom resource (`x-kubernetes-validations`): a list of objects as in
    /// the CustomResourceDefinition.
    pub fn rules(&self) -> Option<&Value> {
        self.graph().validation(self.node())?.rules.as_ref()
    }
}

/// The same node of the same graph.
impl PartialEq for Schema {
    fn eq(&self, other: &Schema) -> bool {
        std::ptr::eq(self.graph(), other.graph()) && self.node == other.node
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({:?}, {})", self.kind(), self.type_name().unwrap_or("-"))
    }
}
