//! From JSON to values and back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value as Json;

use crate::{
    library::time,
    types::Type,
    value::{EvalError, Fields, Items, List, ListKind, Map, Object, Outcome, Text, Value},
};

/// Deepest value that is made into JSON.
const DEEPEST: usize = 100;

/// Looks at JSON as a value of a type.
pub(crate) fn read<'a>(value: &'a Json, of: &Type) -> Outcome<'a> {
    let list = |items: &'a [Json], of: &Type, kind| {
        Value::List(List { items: Items::Json(items, of.clone()), kind })
    };
    Ok(match (value, of) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(value), _) => Value::Bool(*value),
        (Json::Number(number), Type::Double) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        (Json::Number(number), _) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Value::Int(value),
            // Whole floats are numbers for a schema that says so.
            (None, Some(value)) if matches!(of, Type::Int) && value.abs() < 9.0e18 => {
                Value::Int(value as i64)
            }
            (None, value) => Value::Double(value.unwrap_or(f64::NAN)),
        },
        (Json::String(text), Type::Timestamp) => match time::timestamp_or_date(text) {
            Some(moment) => Value::Timestamp(moment),
            None => return EvalError::new(format!("Invalid date format {text}")),
        },
        (Json::String(text), Type::Duration) => match time::duration(text) {
            Some(span) => Value::Duration(span),
            None => return EvalError::new(format!("Invalid duration {text}")),
        },
        (Json::String(text), Type::Bytes) => match STANDARD.decode(text) {
            Ok(bytes) => Value::Bytes(bytes.into()),
            Err(_) => return EvalError::new(format!("Invalid byte formatted string {text}")),
        },
        (Json::String(text), _) => Value::String(Text::Borrowed(text)),
        (Json::Array(items), Type::List(of)) => list(items, of, ListKind::Plain),
        (Json::Array(items), Type::Set(of)) => list(items, of, ListKind::Set),
        (Json::Array(items), Type::Keyed(of, keys)) => {
            list(items, of, ListKind::Keyed(keys.clone()))
        }
        (Json::Array(items), _) => list(items, &Type::Dyn, ListKind::Plain),
        (Json::Object(map), Type::Map(of)) => Value::Map(Map::Json(map, of.1.clone())),
        (Json::Object(map), Type::Object(of)) => {
            Value::Object(Object { of: of.clone(), fields: Fields::Json(map) })
        }
        (Json::Object(map), _) => Value::Map(Map::Json(map, Type::Dyn)),
    })
}

impl Value<'_> {
    /// The value as JSON.
    ///
    /// # Errors
    /// When it has no form in JSON.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        write(self, 0)
    }
}

impl Value<'_> {
    /// What is wrong with the names of the objects that an expression has made: one in the field `a`
    /// of a `T` has to be a `T.a`.
    pub fn misnamed(&self) -> Option<String> {
        match self {
            Value::Object(object) => misnamed(self, object.of.name(), 0),
            _ => None,
        }
    }
}

fn misnamed(value: &Value<'_>, wanted: &str, depth: usize) -> Option<String> {
    if depth > DEEPEST {
        return Some("value is nested too deeply".into());
    }
    match value {
        Value::Object(Object { of, fields: Fields::Owned(fields) }) => {
            if of.name() != wanted {
                return Some(format!(
                    "unexpected type name {:?}, expected {wanted:?}, which matches field name path \
                     from root Object type",
                    of.name()
                ));
            }
            fields
                .iter()
                .find_map(|(name, value)| misnamed(value, &format!("{wanted}.{name}"), depth + 1))
        }
        Value::List(List { items: Items::Owned(items), .. }) => {
            items.iter().find_map(|item| misnamed(item, wanted, depth + 1))
        }
        Value::Map(Map::Owned(entries)) => {
            entries.all.iter().find_map(|(_, value)| misnamed(value, wanted, depth + 1))
        }
        _ => None,
    }
}

fn write(value: &Value<'_>, depth: usize) -> Result<Json, EvalError> {
    if depth > DEEPEST {
        return EvalError::new("value is nested too deeply");
    }
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Uint(value) => (*value).into(),
        Value::Double(value) => (*value).into(),
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::Timestamp(moment) => time::show_timestamp(*moment).into(),
        Value::Duration(span) => time::show_duration(*span).into(),
        Value::List(List { items: Items::Json(items, _), .. }) => Json::Array(items.to_vec()),
        Value::List(list) => {
            let items = list.iter().map(|item| write(&item?, depth + 1));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Map(Map::Json(map, _)) => Json::Object((*map).clone()),
        Value::Object(Object { fields: Fields::Json(map), .. }) => Json::Object((*map).clone()),
        Value::Map(map) => {
            let mut fields = serde_json::Map::new();
            for (key, value) in map.entries()? {
                let Value::String(key) = key else {
                    return EvalError::new("a key is no string");
                };
                fields.insert(key.to_string(), write(&value, depth + 1)?);
            }
            Json::Object(fields)
        }
        Value::Object(object) => {
            let mut fields = serde_json::Map::new();
            for (name, value) in object.set()? {
                fields.insert(name, write(&value, depth + 1)?);
            }
            Json::Object(fields)
        }
        Value::Quantity(quantity) => quantity.to_string().into(),
        Value::Ip(ip) => ip.to_string().into(),
        Value::Cidr(cidr) => cidr.to_string().into(),
        Value::Optional(Some(of)) => write(of, depth + 1)?,
        other => {
            return EvalError::new(format!("{} has no form in JSON", other.type_name()));
        }
    })
}
