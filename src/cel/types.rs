//! Types as the checker knows them.

use std::{fmt, sync::Arc};

/// An object type, so that a schema can be one. Two are the same when they have the same name.
pub trait ObjectType: fmt::Debug + Send + Sync {
    /// The name in messages.
    fn name(&self) -> &str;

    /// The type of a field by its name in expressions (see [`crate::escape`]).
    fn field(&self, name: &str) -> Option<Type>;

    /// Whether an expression may make objects of the type, as in `Object{spec: ...}`.
    fn is_open(&self) -> bool {
        false
    }
}

/// A type.
#[derive(Clone, Debug)]
pub enum Type {
    /// Known at evaluation only.
    Dyn,
    /// That of what is wrong already.
    Error,
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool,
    /// 64 bits with a sign.
    Int,
    /// 64 bits without.
    Uint,
    /// A float.
    Double,
    /// Text.
    String,
    /// Octets.
    Bytes,
    /// A moment.
    Timestamp,
    /// A span of time.
    Duration,
    /// A list of things of a type.
    List(Arc<Type>),
    /// A list whose order does not count, nor how often something is in it.
    Set(Arc<Type>),
    /// A list of objects that are told apart by some of their fields.
    Keyed(Arc<Type>, Arc<[String]>),
    /// A map: keys, values.
    Map(Arc<(Type, Type)>),
    /// An object with known fields.
    Object(Arc<dyn ObjectType>),
    /// Something or nothing.
    Optional(Arc<Type>),
    /// A type of something.
    Type(Option<Arc<Type>>),
    /// A type that only functions know the inside of.
    Opaque(&'static str),
    /// To be found out.
    Param(u32),
}

impl Type {
    /// A list of `of`.
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of))
    }

    /// A map.
    pub fn map(keys: Type, values: Type) -> Type {
        Type::Map(Arc::new((keys, values)))
    }

    /// `of` or nothing.
    pub fn optional(of: Type) -> Type {
        Type::Optional(Arc::new(of))
    }

    /// What a list has in it.
    pub(crate) fn element(&self) -> Option<&Type> {
        match self {
            Type::List(of) | Type::Set(of) | Type::Keyed(of, _) => Some(of),
            _ => None,
        }
    }

    /// Whether it has no more parts than `most`. The parts may be shared, and be many.
    pub(crate) fn is_small(&self, most: &mut usize) -> bool {
        if *most == 0 {
            return false;
        }
        *most -= 1;
        match self {
            Type::List(of) | Type::Set(of) | Type::Keyed(of, _) | Type::Optional(of) => {
                of.is_small(most)
            }
            Type::Map(of) => of.0.is_small(most) && of.1.is_small(most),
            Type::Type(Some(of)) => of.is_small(most),
            _ => true,
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// A type by the name that expressions know it by.
    pub(crate) fn named(name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "int" => Type::Int,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "null_type" => Type::Null,
            "string" => Type::String,
            "type" => Type::Type(None),
            "uint" => Type::Uint,
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "optional_type" => Type::optional(Type::Dyn),
            "net.IP" => Type::Opaque("net.IP"),
            "net.CIDR" => Type::Opaque("net.CIDR"),
            "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
            "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
            "kubernetes.Semver" => Type::Opaque("kubernetes.Semver"),
            "kubernetes.NamedFormat" => Type::Opaque("kubernetes.NamedFormat"),
            _ => return None,
        })
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        if let (Some(one), Some(another)) = (self.element(), other.element()) {
            return one == another;
        }
        match (self, other) {
            (Type::Map(one), Type::Map(another)) => one == another,
            (Type::Object(one), Type::Object(another)) => one.name() == another.name(),
            (Type::Optional(one), Type::Optional(another)) => one == another,
            (Type::Type(one), Type::Type(another)) => one == another,
            (Type::Opaque(one), Type::Opaque(another)) => one == another,
            (Type::Param(one), Type::Param(another)) => one == another,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => out.write_str("dyn"),
            Type::Error => out.write_str("!error!"),
            Type::Null => out.write_str("null"),
            Type::Bool => out.write_str("bool"),
            Type::Int => out.write_str("int"),
            Type::Uint => out.write_str("uint"),
            Type::Double => out.write_str("double"),
            Type::String => out.write_str("string"),
            Type::Bytes => out.write_str("bytes"),
            Type::Timestamp => out.write_str("timestamp"),
            Type::Duration => out.write_str("duration"),
            Type::List(of) | Type::Set(of) | Type::Keyed(of, _) => write!(out, "list({of})"),
            Type::Map(of) => write!(out, "map({}, {})", of.0, of.1),
            Type::Object(of) => out.write_str(of.name()),
            Type::Optional(of) => write!(out, "optional_type({of})"),
            Type::Type(None) => out.write_str("type"),
            Type::Type(Some(of)) => write!(out, "type({of})"),
            Type::Opaque(name) => out.write_str(name),
            Type::Param(number) => write!(out, "_var{number}"),
        }
    }
}
