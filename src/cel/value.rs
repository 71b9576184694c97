//! Values at evaluation. What comes from JSON stays where it is and is looked at as late as possible.

use std::{collections::HashMap, net::IpAddr, ops::Deref, rc::Rc, sync::Arc};

use apimachinery::quantity::Quantity;
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::{
    ast::Literal,
    json,
    library::{authorizer::Check, formats::NamedFormat, semver::Semver, url::Url},
    types::{ObjectType, Type},
};

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression failed.
    #[error("{0}")]
    Failed(String),
    /// It took more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    Cost,
}

impl EvalError {
    pub(crate) fn new<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Failed(message.into()))
    }

    pub(crate) fn no_overload<T>() -> Result<T, Self> {
        Self::new("no such overload")
    }
}

/// What evaluating something gives.
pub type Outcome<'a> = Result<Value<'a>, EvalError>;

/// Something of the host's whose fields are made when they are asked for, such as `variables`.
pub trait HostObject<'a> {
    /// A field; none where there is none of that name.
    fn field(&self, name: &str) -> Option<Outcome<'a>>;
}

/// Text, borrowed from the input where it can be.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Part of the input or of the expression.
    Borrowed(&'a str),
    /// Made by the evaluation.
    Shared(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub i64);

/// A value.
#[derive(Clone)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number with a sign.
    Int(i64),
    /// A number without.
    Uint(u64),
    /// A float.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Octets.
    Bytes(Rc<[u8]>),
    /// A moment.
    Timestamp(Timestamp),
    /// A span of time.
    Duration(Nanos),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// An object with known fields.
    Object(Object<'a>),
    /// An object of the host's.
    Host(Rc<dyn HostObject<'a> + 'a>),
    /// A type, by name.
    Type(Rc<str>),
    /// Something or nothing.
    Optional(Option<Rc<Value<'a>>>),
    /// An amount of a resource.
    Quantity(Quantity),
    /// An address.
    Ip(IpAddr),
    /// A network.
    Cidr(IpNet),
    /// An address on the web.
    Url(Rc<Url>),
    /// A version.
    Semver(Rc<Semver>),
    /// A named format.
    Format(&'static NamedFormat),
    /// A question to the authorizer, half asked, or its answer.
    Authorizer(Rc<Check<'a>>),
}

/// How the elements of a list count.
#[derive(Clone, Debug, Default)]
pub(crate) enum ListKind {
    /// In their order.
    #[default]
    Plain,
    /// Each once, in any order.
    Set,
    /// Told apart by these fields, in any order.
    Keyed(Arc<[String]>),
}

/// A list.
#[derive(Clone)]
pub struct List<'a> {
    pub(crate) items: Items<'a>,
    pub(crate) kind: ListKind,
}

#[derive(Clone)]
pub(crate) enum Items<'a> {
    Json(&'a [Json], Type),
    Owned(Rc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    pub(crate) fn owned(items: Vec<Value<'a>>) -> Self {
        Self { items: Items::Owned(Rc::new(items)), kind: ListKind::Plain }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.items {
            Items::Json(items, _) => items.len(),
            Items::Owned(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<Outcome<'a>> {
        match &self.items {
            Items::Json(items, of) => items.get(at).map(|item| json::read(item, of)),
            Items::Owned(items) => items.get(at).cloned().map(Ok),
        }
    }

    /// Its items.
    pub fn values(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        self.iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    pub(crate) fn to_vec(&self) -> Result<Vec<Value<'a>>, EvalError> {
        match &self.items {
            Items::Owned(items) => Ok(items.to_vec()),
            Items::Json(..) => self.iter().collect(),
        }
    }
}

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// A JSON object, and the type of its values.
    Json(&'a serde_json::Map<String, Json>, Type),
    /// Made by the evaluation.
    Owned(Rc<Entries<'a>>),
}

/// Entries in the order of their making.
#[derive(Clone, Default)]
pub struct Entries<'a> {
    pub(crate) all: Vec<(Value<'a>, Value<'a>)>,
    index: HashMap<Key, usize>,
}

/// What keys are compared by: numbers by value, whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(u64),
    String(String),
}

impl Key {
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Null => Key::Null,
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Key::Uint(*value), Key::Int),
            Value::Double(value) => match *value as i64 {
                whole if whole as f64 == *value && whole != i64::MAX => Key::Int(whole),
                _ => Key::Double(value.to_bits()),
            },
            Value::String(text) => Key::String(text.to_string()),
            _ => return None,
        })
    }
}

impl<'a> Entries<'a> {
    /// Adds an entry, or changes the one of that key. The result is whether it is new; none where
    /// the key cannot be one.
    pub(crate) fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> Option<bool> {
        let of = Key::of(&key)?;
        if let Some(at) = self.index.get(&of) {
            if let Some(entry) = self.all.get_mut(*at) {
                entry.1 = value;
            }
            return Some(false);
        }
        self.index.insert(of, self.all.len());
        self.all.push((key, value));
        Some(true)
    }

    pub(crate) fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        let at = self.index.get(&Key::of(key)?)?;
        self.all.get(*at).map(|(_, value)| value)
    }
}

impl<'a> Map<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Owned(entries) => entries.all.len(),
        }
    }

    pub(crate) fn get(&self, key: &Value<'_>) -> Option<Outcome<'a>> {
        match (self, key) {
            (Map::Json(map, of), Value::String(key)) => {
                let map: &'a serde_json::Map<String, Json> = map;
                map.get(&**key).map(|value| json::read(value, of))
            }
            (Map::Json(..), _) => None,
            (Map::Owned(entries), key) => entries.get(key).cloned().map(Ok),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<Outcome<'a>> {
        self.get(&Value::String(Text::Borrowed(name)))
    }

    pub(crate) fn entries(&self) -> Result<Vec<(Value<'a>, Value<'a>)>, EvalError> {
        match self {
            Map::Json(map, of) => map
                .iter()
                .map(|(key, value)| {
                    Ok((Value::String(Text::Borrowed(key)), json::read(value, of)?))
                })
                .collect(),
            Map::Owned(entries) => Ok(entries.all.clone()),
        }
    }
}

/// An object with known fields.
#[derive(Clone)]
pub struct Object<'a> {
    pub(crate) of: Arc<dyn ObjectType>,
    pub(crate) fields: Fields<'a>,
}

#[derive(Clone)]
pub(crate) enum Fields<'a> {
    Json(&'a serde_json::Map<String, Json>),
    Owned(Rc<Vec<(String, Value<'a>)>>),
}

impl<'a> Object<'a> {
    pub(crate) fn field(&self, name: &str) -> Option<Outcome<'a>> {
        match &self.fields {
            Fields::Json(map) => {
                let map: &'a serde_json::Map<String, Json> = map;
                let value = match crate::escape::unescape(name) {
                    Some(name) => map.get(&name)?,
                    None => map.get(name)?,
                };
                let of = self.of.field(name)?;
                Some(json::read(value, &of))
            }
            Fields::Owned(fields) => {
                fields.iter().find(|(known, _)| known == name).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    /// The fields that are set, by their names in JSON.
    pub(crate) fn set(&self) -> Result<Vec<(String, Value<'a>)>, EvalError> {
        match &self.fields {
            Fields::Json(map) => {
                let known = |name: &str| self.of.field(&crate::escape::escape(name)?);
                map.iter()
                    .filter_map(|(name, value)| Some((name, value, known(name)?)))
                    .map(|(name, value, of)| Ok((name.clone(), json::read(value, &of)?)))
                    .collect()
            }
            Fields::Owned(fields) => Ok(fields
                .iter()
                .map(|(name, value)| {
                    let name = crate::escape::unescape(name).unwrap_or_else(|| name.clone());
                    (name, value.clone())
                })
                .collect()),
        }
    }
}

impl<'a> Value<'a> {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Value::String(Text::Shared(text.into().into()))
    }

    /// A value of JSON, of a type.
    ///
    /// # Errors
    /// When it is none of the type, say a timestamp that cannot be read.
    pub fn of_json(value: &'a Json, of: &Type) -> Outcome<'a> {
        json::read(value, of)
    }

    /// Something, as an optional.
    pub fn some(value: Value<'a>) -> Self {
        Value::Optional(Some(Rc::new(value)))
    }

    /// Nothing, as an optional.
    pub fn none() -> Self {
        Value::Optional(None)
    }

    /// A field of an object that an expression has made.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::Object(object) => object.field(name)?.ok(),
            _ => None,
        }
    }

    /// The authorizer, about `user`'s rights.
    pub fn authorizer(authorizer: &'a dyn crate::Authorizer) -> Self {
        Value::Authorizer(Rc::new(Check::new(authorizer)))
    }

    /// A question about a resource, of which only the verb is missing.
    pub fn resource_check(
        authorizer: &'a dyn crate::Authorizer,
        question: crate::Question,
    ) -> Self {
        Value::Authorizer(Rc::new(Check::about(authorizer, question)))
    }

    pub(crate) fn list(items: Vec<Value<'a>>) -> Self {
        Value::List(List::owned(items))
    }

    pub(crate) fn map(entries: Entries<'a>) -> Self {
        Value::Map(Map::Owned(Rc::new(entries)))
    }

    pub(crate) fn literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Int(value) => Value::Int(*value),
            Literal::Uint(value) => Value::Uint(*value),
            Literal::Double(value) => Value::Double(*value),
            Literal::String(text) => Value::String(Text::Borrowed(text)),
            Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) => "list",
            Value::Map(_) | Value::Host(_) => "map",
            Value::Object(object) => object.of.name(),
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Url(_) => "kubernetes.URL",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Authorizer(check) => check.type_name(),
        }
    }

    /// Whether it is the value that things of its type begin with.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::Duration(span) => span.0 == 0,
            Value::List(list) => list.len() == 0,
            Value::Map(map) => map.len() == 0,
            Value::Optional(of) => of.is_none(),
            _ => false,
        }
    }

    /// How many parts it has, for what handling it costs.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            Value::Object(object) => match &object.fields {
                Fields::Json(map) => map.len(),
                Fields::Owned(fields) => fields.len(),
            },
            Value::Optional(Some(of)) => return of.size(),
            Value::Cidr(IpNet::V4(_)) | Value::Ip(IpAddr::V4(_)) => 4,
            Value::Cidr(_) | Value::Ip(_) => 16,
            _ => 1,
        };
        size as u64
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&crate::show::show(self))
    }
}
