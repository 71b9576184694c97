//! The types of a schema, as expressions know them.

use std::{collections::BTreeMap, sync::Arc};

use cel::{ObjectType, Type};
use serde_json::Value;

use crate::kinds::value::Fields as _;

/// An object of a schema.
#[derive(Debug)]
pub(super) struct Shape {
    name: String,
    fields: BTreeMap<String, Type>,
}

impl Shape {
    /// An object type; fields that can have no name in expressions, or no type, are left out.
    pub(super) fn object<'a>(
        name: &str,
        fields: impl IntoIterator<Item = (&'a str, Option<Type>)>,
        root: bool,
    ) -> Type {
        let known = |(name, of): (&str, Option<Type>)| Some((cel::escape(name)?, of?));
        let mut fields: BTreeMap<String, Type> = fields.into_iter().filter_map(known).collect();
        if root {
            let metadata = ["name", "generateName"].map(|field| (field, Some(Type::String)));
            let metadata = Shape::object(&format!("{name}.metadata"), metadata, false);
            fields.insert("apiVersion".into(), Type::String);
            fields.insert("kind".into(), Type::String);
            fields.insert("metadata".into(), metadata);
        }
        Type::Object(Arc::new(Self { name: name.to_owned(), fields }))
    }
}

impl ObjectType for Shape {
    fn name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Type> {
        self.fields.get(name).cloned()
    }
}

/// The type of what is neither an object nor a list.
pub(super) fn scalar(schema: &Value) -> Option<Type> {
    if schema.on("x-kubernetes-int-or-string") {
        return Some(Type::Dyn);
    }
    Some(match schema.text("type") {
        "string" => match schema.text("format") {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::String,
        },
        "boolean" => Type::Bool,
        "number" => Type::Double,
        "integer" => Type::Int,
        _ => return None,
    })
}

/// The type of a list.
pub(super) fn list(schema: &Value, items: Type) -> Type {
    match schema.text("x-kubernetes-list-type") {
        "set" => Type::Set(items.into()),
        "map" => {
            let keys = schema.texts("x-kubernetes-list-map-keys").map(ToOwned::to_owned);
            Type::Keyed(items.into(), keys.collect())
        }
        _ => Type::list(items),
    }
}
