//! Values for people: in tests and in messages about them.

use crate::{
    library::{number, time},
    value::Value,
};

/// The value in the form that literals have.
pub fn show(value: &Value<'_>) -> String {
    show_at(value, 0)
}

fn show_at(value: &Value<'_>, depth: usize) -> String {
    if depth > 50 {
        return "...".into();
    }
    let next = |value: &Value<'_>| show_at(value, depth + 1);
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) => format!("double({})", number::show(*value)),
        Value::String(text) => serde_json::Value::from(&**text).to_string(),
        Value::Bytes(bytes) => format!("b{:?}", String::from_utf8_lossy(bytes)),
        Value::Timestamp(moment) => format!("timestamp({})", time::show_timestamp(*moment)),
        Value::Duration(span) => format!("duration({})", time::show_duration(*span)),
        Value::List(list) => {
            let items = list.iter().flatten().map(|item| next(&item));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let entries = map.entries().unwrap_or_default();
            let all = entries.iter().map(|(key, value)| format!("{}: {}", next(key), next(value)));
            let mut all: Vec<String> = all.collect();
            all.sort();
            format!("{{{}}}", all.join(", "))
        }
        Value::Object(object) => {
            let fields = object.set().unwrap_or_default();
            let shown = |(name, value): &(String, Value<'_>)| format!("{name:?}: {}", next(value));
            format!("{{{}}}", fields.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Value::Type(name) => format!("type({name})"),
        Value::Optional(None) => "optional.none()".into(),
        Value::Optional(Some(of)) => format!("optional.of({})", next(of)),
        other => format!("<{}>", other.type_name()),
    }
}
