//! A schema seen as server-side apply sees it: scalars, lists and maps, atomic or merged.
//!
//! Where a schema says nothing the type follows from the value: maps are merged field by field
//! and lists are atomic; what is embedded raw (RawExtension) is atomic as a whole.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::element::PathElement;
use crate::schema::Schema;
use crate::schema::graph::{Field, Graph, Kind, ListType, NONE, Node, NodeId, field, flag};

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) enum Type<'a> {
    /// Declared; with whether fields that are not declared are kept at or above it.
    Declared(&'a Graph, &'a Node, bool),
    /// Follows from the value, maps merged.
    Deduced,
    /// Follows from the value, everything atomic.
    Atomic,
}

/// What a value is.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Scalar(Scalar),
    List(List<'a>),
    Map(Fields<'a>),
}

/// The values that a scalar can have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Text,
    Numeric,
    Boolean,
    Any,
}

#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub(super) relation: ListType,
    pub(super) items: Type<'a>,
    keys: Keys<'a>,
}

#[derive(Clone, Copy)]
enum Keys<'a> {
    Many(&'a [Box<str>]),
    /// The merge key of a list whose type was not given.
    One(&'a str),
}

#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) atomic: bool,
    declared: Option<(&'a Graph, &'a Node, bool)>,
    /// Type of the fields that are not declared; none where there may be no such.
    others: Option<Type<'a>>,
}

impl<'a> Type<'a> {
    pub(super) fn of(schema: &'a Schema) -> Self {
        Type::declared(schema.graph(), schema.id(), false)
    }

    fn declared(graph: &'a Graph, id: NodeId, preserve: bool) -> Self {
        if id == NONE {
            return Type::Deduced;
        }
        let (graph, id) = graph.resolve(id);
        let node = graph.node(id);
        Type::Declared(graph, node, preserve || node.has(flag::PRESERVE_UNKNOWN))
    }

    /// What a value of this type is. Of declared types the value does not matter.
    pub(super) fn shape(self, value: Option<&Value>) -> Shape<'a> {
        let Type::Declared(graph, node, preserve) = self else { return self.deduce(value) };
        match node.kind {
            Kind::Object => Shape::Map(Fields {
                // A field may say otherwise than its type.
                atomic: node.has(flag::ATOMIC_MAP) && !node.has(flag::GRANULAR_MAP),
                declared: Some((graph, node, preserve)),
                others: (preserve || node.len == 0).then_some(Type::Deduced),
            }),
            Kind::Map => Shape::Map(Fields {
                atomic: node.has(flag::ATOMIC_MAP),
                declared: None,
                others: Some(Type::declared(graph, node.child, preserve)),
            }),
            Kind::Array => Shape::List(List::declared(graph, node, preserve)),
            Kind::String | Kind::Bytes if plain_text(graph, node) => Shape::Scalar(Scalar::Text),
            Kind::Integer | Kind::Number => Shape::Scalar(Scalar::Numeric),
            Kind::Boolean => Shape::Scalar(Scalar::Boolean),
            Kind::Any | Kind::FieldsV1 => Type::Deduced.deduce(value),
            Kind::RawExtension => Type::Atomic.deduce(value),
            _ => Shape::Scalar(Scalar::Any),
        }
    }

    fn deduce(self, value: Option<&Value>) -> Shape<'a> {
        let atomic = matches!(self, Type::Atomic);
        match value {
            Some(Value::Array(_)) => Shape::List(List {
                relation: ListType::Atomic,
                items: Type::Atomic,
                keys: Keys::Many(&[]),
            }),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                Shape::Scalar(Scalar::Any)
            }
            // A null is no scalar and no list for sure, so it is taken for a map.
            Some(Value::Object(_) | Value::Null) | None => Shape::Map(Fields {
                atomic,
                declared: None,
                others: Some(if atomic { Type::Atomic } else { Type::Deduced }),
            }),
        }
    }

    /// Whether the two values are of different shapes, which only deduced types allow; null is of
    /// no shape at all.
    pub(super) fn differ(self, a: &Value, b: &Value) -> bool {
        let deduced = match self {
            Type::Declared(_, node, _) => {
                matches!(node.kind, Kind::Any | Kind::FieldsV1 | Kind::RawExtension)
            }
            _ => true,
        };
        let rank = |value: &Value| match value {
            Value::Null => 0,
            Value::Array(_) => 1,
            Value::Object(_) => 2,
            _ => 3,
        };
        deduced && rank(a) != rank(b)
    }

    /// Whether it can be told from the type alone that the value is atomic, a list or map.
    pub(super) fn is_atomic(self) -> bool {
        match self.shape(None) {
            Shape::List(list) => list.relation == ListType::Atomic,
            Shape::Map(fields) => fields.atomic,
            Shape::Scalar(_) => false,
        }
    }
}

/// Strings of any other format count as "any scalar" upstream.
fn plain_text(graph: &Graph, node: &Node) -> bool {
    let format = graph.facets(node).and_then(|f| f.format.as_deref());
    matches!(format, None | Some("" | "byte"))
}

impl<'a> List<'a> {
    fn declared(graph: &'a Graph, node: &'a Node, preserve: bool) -> Self {
        let facets = graph.facets(node);
        let merge_key = facets.and_then(|f| f.merge_key.as_deref());
        let (relation, keys) = match node.has(flag::LIST_TYPE_GIVEN) {
            true => {
                (node.list_type, Keys::Many(facets.map(|f| &*f.list_map_keys).unwrap_or_default()))
            }
            // Without a list type the strategy of strategic merge patches decides.
            false if node.has(flag::MERGE) => match merge_key {
                Some(key) => (ListType::Map, Keys::One(key)),
                None => (ListType::Set, Keys::Many(&[])),
            },
            false => (ListType::Atomic, Keys::Many(&[])),
        };
        let items = match node.child {
            NONE => Type::Atomic,
            child => Type::declared(graph, child, preserve),
        };
        List { relation, items, keys }
    }

    /// What identifies an item of a list that is not atomic.
    pub(super) fn element(&self, item: &Value) -> Result<PathElement, String> {
        let refuse = |why: &str| Err(why.to_owned());
        if self.relation == ListType::Set {
            return match item {
                Value::Object(_) => {
                    refuse("associative list without keys has an element that's a map type")
                }
                Value::Array(_) => refuse("not supported: associative list with lists as elements"),
                Value::Null => {
                    refuse("associative list without keys has an element that's an explicit null")
                }
                scalar => Ok(PathElement::Value(scalar.clone())),
            };
        }
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => {
                return refuse("associative list with keys may not have a null element");
            }
            _ => return refuse("associative list with keys may not have non-map elements"),
        };
        let value = |key: &str| fields.get(key).or_else(|| self.key_default(key)).cloned();
        let mut found = Vec::new();
        match self.keys {
            Keys::One(key) => found.extend(value(key).map(|v| (Box::from(key), v))),
            Keys::Many(keys) => {
                found.extend(keys.iter().filter_map(|key| Some((key.clone(), value(key)?))));
            }
        }
        if found.is_empty() {
            let keys: Vec<String> = match self.keys {
                Keys::One(key) => vec![crate::quote::go_quote(key)],
                Keys::Many(keys) => keys.iter().map(|k| crate::quote::go_quote(k)).collect(),
            };
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and \
                 doesn't have default values for any key fields)",
                keys.join(" ")
            ));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(PathElement::Key(found.into()))
    }

    /// The published default of a key that an item does not have.
    fn key_default(&self, key: &str) -> Option<&'a Value> {
        let Type::Declared(graph, node, _) = self.items else { return None };
        let declared = graph.field(node, key)?;
        let (graph, id) = graph.resolve(declared.node);
        let node = graph.node(id);
        let default = graph.facets(node).and_then(|facets| facets.default.as_ref());
        if default.is_some() && !node.has(flag::DEFAULT_HIDDEN) {
            return default;
        }
        // Upstream publishes the zero value as default of what is always written.
        zero(graph, declared).filter(|zero| !zero.is_null())
    }
}

impl<'a> Fields<'a> {
    fn declared_field(&self, name: &str) -> Option<(&'a Graph, &'a Field, bool)> {
        let (graph, node, preserve) = self.declared?;
        Some((graph, graph.field(node, name)?, preserve))
    }

    /// The type of a field; none where there may be no such field.
    pub(super) fn field(&self, name: &str) -> Option<Type<'a>> {
        match self.declared_field(name) {
            Some((graph, field, preserve)) => Some(Type::declared(graph, field.node, preserve)),
            None => self.others,
        }
    }

    /// Whether the schema names the field.
    pub(super) fn declares(&self, name: &str) -> bool {
        self.declared_field(name).is_some()
    }

    /// What a field counts as in an object that does not have it, where that is not "absent":
    /// Go always writes structs and what is not marked `omitempty`, so to upstream these are in
    /// every object.
    pub(super) fn stand_in(&self, name: &str) -> Option<&'static Value> {
        let (graph, field, _) = self.declared_field(name)?;
        zero(graph, field)
    }
}

/// What Go writes for a field that an object does not have; none where it writes nothing.
fn zero(graph: &Graph, declared: &Field) -> Option<&'static Value> {
    if !declared.has(field::ALWAYS_WRITTEN) {
        return None;
    }
    let pointer = declared.has(field::POINTER);
    let (graph, id) = graph.resolve(declared.node);
    Some(match graph.node(id).kind {
        Kind::Object if !pointer => &EMPTY,
        Kind::String if !pointer => &TEXT,
        Kind::Integer | Kind::Number | Kind::IntOrString if !pointer => &NUMBER,
        Kind::Boolean if !pointer => &FALSE,
        Kind::Quantity if !pointer => &QUANTITY,
        Kind::Duration if !pointer => &DURATION,
        _ => &Value::Null,
    })
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| json!({}));
static TEXT: Value = Value::String(String::new());
static FALSE: Value = Value::Bool(false);
static NUMBER: LazyLock<Value> = LazyLock::new(|| json!(0));
static QUANTITY: LazyLock<Value> = LazyLock::new(|| json!("0"));
static DURATION: LazyLock<Value> = LazyLock::new(|| json!("0s"));
