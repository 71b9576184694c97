//! The types of a schema, as expressions know them, and how large their values may be.

use std::{collections::BTreeMap, sync::Arc};

use cel::{Bounds, ObjectType, Type};
use serde_json::Value;

use crate::kinds::value::Fields as _;

/// Largest request, in which all objects have to fit.
const LARGEST: u64 = 3 << 20;

/// Longest name of an object.
const LONGEST_NAME: u64 = 253;

/// What expressions may know of a schema.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) of: Type,
    pub(super) bounds: Arc<Bounds>,
    /// The fewest octets of JSON that a value takes.
    least: u64,
}

impl Known {
    fn plain(of: Type, most: u64, least: u64) -> Self {
        Self { of, bounds: Bounds { most, ..Bounds::default() }.into(), least }
    }

    fn text(most: u64) -> Self {
        Self::plain(Type::String, most, 2)
    }

    /// How many such values an object has at most.
    pub(super) fn most(&self) -> u64 {
        LARGEST / (self.least + 1)
    }
}

/// An object of a schema.
#[derive(Debug)]
pub(super) struct Shape {
    name: String,
    fields: BTreeMap<String, Type>,
}

/// An object; fields that can have no name in expressions, or no type, are left out.
pub(super) fn object(
    name: &str,
    schema: &Value,
    fields: Vec<(&str, Option<Known>)>,
    root: bool,
) -> Known {
    let mut known: BTreeMap<&str, Known> =
        fields.into_iter().filter_map(|(name, of)| Some((name, of?))).collect();
    if root && !names_itself(schema) {
        let anything = || Known::text(LARGEST - 2);
        known.insert("apiVersion", anything());
        known.insert("kind", anything());
        let given = schema.sub("properties").and_then(|all| all.sub("metadata")?.sub("properties"));
        let capped = |field: &str, most: u64| {
            let given = given.and_then(|all| count(all.sub(field)?, "maxLength"));
            (field.to_owned(), Known::text(4 * given.map_or(most, |given| given.min(most))))
        };
        let names = [capped("name", LONGEST_NAME), capped("generateName", LONGEST_NAME - 1)];
        let names = names.iter().map(|(field, known)| (field.as_str(), Some(known.clone())));
        let names = names.collect();
        let metadata = object(&format!("{name}.metadata"), &Value::Null, names, false);
        known.insert("metadata", metadata);
    }
    let properties = schema.sub("properties");
    let has_default = |name: &str| properties.is_some_and(|all| all[name].has("default"));
    let required = |name: &str| schema.texts("required").any(|known| known == name);
    let least = known.iter().filter(|(name, _)| required(name) && !has_default(name));
    let least = least.map(|(name, of)| name.len() as u64 + of.least + 4).sum::<u64>() + 2;
    let (mut types, mut bounds) = (BTreeMap::new(), BTreeMap::new());
    for (name, of) in known {
        if let Some(name) = cel::escape(name) {
            bounds.insert(name.clone(), of.bounds);
            types.insert(name, of.of);
        }
    }
    let bounds = Bounds { fields: bounds, ..Bounds::default() }.into();
    let shape = Shape { name: name.to_owned(), fields: types };
    Known { of: Type::Object(Arc::new(shape)), bounds, least }
}

/// Whether the schema of an object says itself what every object has.
fn names_itself(schema: &Value) -> bool {
    let is = |path: &[&str], kind: &str| {
        let at = path.iter().try_fold(schema, |at, name| at.sub("properties")?.sub(name));
        at.is_some_and(|at| at.text("type") == kind)
    };
    is(&["kind"], "string")
        && is(&["apiVersion"], "string")
        && is(&["metadata"], "object")
        && is(&["metadata", "name"], "string")
        && is(&["metadata", "generateName"], "string")
}

impl ObjectType for Shape {
    fn name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Type> {
        self.fields.get(name).cloned()
    }
}

/// A limit of a schema; one below nothing is nothing.
pub(super) fn count(schema: &Value, limit: &str) -> Option<u64> {
    schema.int(limit).map(|count| count.max(0).unsigned_abs())
}

/// What is neither an object nor a list.
pub(super) fn scalar(schema: &Value) -> Option<Known> {
    // Lengths count characters, of up to four octets.
    let length = || count(schema, "maxLength").map(|most| most.saturating_mul(4));
    let unbounded = LARGEST - 2;
    if schema.on("x-kubernetes-int-or-string") {
        return Some(Known::plain(Type::Dyn, length().unwrap_or(unbounded), 1));
    }
    Some(match schema.text("type") {
        "string" => match schema.text("format") {
            "byte" => Known::plain(Type::Bytes, count(schema, "maxLength").unwrap_or(unbounded), 2),
            "duration" => Known::plain(Type::Duration, 32, 3),
            "date" => Known::plain(Type::Timestamp, 12, 12),
            "date-time" => Known::plain(Type::Timestamp, 32, 21),
            _ => {
                let words = schema.list("enum");
                let longest = words.iter().filter_map(Value::as_str).map(str::len).max();
                let of_words = (!words.is_empty()).then(|| longest.unwrap_or(0) as u64);
                Known::text(length().or(of_words).unwrap_or(unbounded))
            }
        },
        "boolean" => Known::plain(Type::Bool, 0, 4),
        "number" => Known::plain(Type::Double, 0, 1),
        "integer" => Known::plain(Type::Int, 0, 1),
        _ => return None,
    })
}

/// A list.
pub(super) fn list(schema: &Value, items: Known) -> Known {
    let most = count(schema, "maxItems").unwrap_or((LARGEST - 2) / (items.least + 1));
    let elements = Some(items.bounds);
    let items = items.of;
    let of = match schema.text("x-kubernetes-list-type") {
        "set" => Type::Set(items.into()),
        "map" => {
            let keys = schema.texts("x-kubernetes-list-map-keys").map(ToOwned::to_owned);
            Type::Keyed(items.into(), keys.collect())
        }
        _ => Type::list(items),
    };
    Known { of, bounds: Bounds { most, elements, ..Bounds::default() }.into(), least: 2 }
}

/// A map.
pub(super) fn map(schema: &Value, values: Known) -> Known {
    let most = count(schema, "maxProperties").unwrap_or((LARGEST - 2) / (values.least + 6));
    let elements = Some(values.bounds);
    let bounds = Bounds { most, elements, keyed: true, ..Bounds::default() };
    Known { of: Type::map(Type::String, values.of), bounds: bounds.into(), least: 2 }
}
