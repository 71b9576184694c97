//! Reading fields of JSON objects where nothing, null and a value are what a Go struct makes of
//! them: an absent string is empty, an absent list has no items.

use serde_json::{Map, Value};

/// Fields of an object. Everything else than an object has none.
pub(crate) trait Fields {
    /// The value at `field` unless it is absent or null.
    fn sub(&self, field: &str) -> Option<&Value>;

    /// Whether there is a value at `field`.
    fn has(&self, field: &str) -> bool {
        self.sub(field).is_some()
    }

    /// The string at `field`, empty when there is none.
    fn text(&self, field: &str) -> &str {
        self.sub(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// The string at `field`, if there is one.
    fn opt_text(&self, field: &str) -> Option<&str> {
        self.sub(field).and_then(Value::as_str)
    }

    /// The integer at `field`, if there is one.
    fn int(&self, field: &str) -> Option<i64> {
        self.sub(field).and_then(Value::as_i64)
    }

    /// The boolean at `field`, if there is one.
    fn flag(&self, field: &str) -> Option<bool> {
        self.sub(field).and_then(Value::as_bool)
    }

    /// Whether the boolean at `field` is there and true.
    fn on(&self, field: &str) -> bool {
        self.flag(field) == Some(true)
    }

    /// The items of the list at `field`.
    fn list(&self, field: &str) -> &[Value] {
        self.sub(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// The strings of the list at `field`.
    fn texts<'a>(&'a self, field: &str) -> impl Iterator<Item = &'a str> {
        self.list(field).iter().filter_map(Value::as_str)
    }

    /// The entries of the map at `field`.
    fn entries<'a>(&'a self, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.sub(field).and_then(Value::as_object).into_iter().flatten()
    }

    /// The map of strings at `field`.
    fn strings<'a>(&'a self, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.entries(field).map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
    }
}

impl Fields for Value {
    fn sub(&self, field: &str) -> Option<&Value> {
        self.get(field).filter(|value| !value.is_null())
    }
}

/// Sets `field` of an object unless it has a value.
pub(crate) fn set_default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// Removes `field` of an object.
pub(crate) fn remove(object: &mut Value, field: &str) -> Option<Value> {
    object.as_object_mut()?.remove(field)
}

/// The object at `field`, made when it is not there. `None` when the parent is no object.
pub(crate) fn object_at<'a>(
    parent: &'a mut Value,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    let slot = parent.as_object_mut()?.entry(field).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

/// The items of the list at `field`, to change them.
pub(crate) fn list_mut<'a>(
    parent: &'a mut Value,
    field: &str,
) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Whether two values are the same to Kubernetes: absent, null and empty are one.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let empty = Value::Null;
            left.iter().all(|(key, value)| same(value, right.get(key).unwrap_or(&empty)))
                && right.iter().all(|(key, value)| left.contains_key(key) || same(&empty, value))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Null, other) | (other, Value::Null) => match other {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        },
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_null_and_empty_are_the_same() {
        assert!(same(&json!({"a": null, "b": [], "c": {}}), &json!({})));
        assert!(same(&json!({"a": [{"b": []}]}), &json!({"a": [{}]})));
        assert!(!same(&json!({"a": ""}), &json!({"b": 1})));
        assert!(!same(&json!([1]), &json!([1, 2])));
    }
}
