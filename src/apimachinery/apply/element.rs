//! One step of a field path: a field, an item of a list by its keys or its value, or an index.
//!
//! Order, equality and text are those of structured-merge-diff: `fieldsV1` documents are sorted by
//! them, and conflict messages show the text.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

use crate::quote::go_quote;

/// A step from an object or a list to what it contains.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of an object, `f:` in fieldsV1.
    Field(Box<str>),
    /// The item of a list that has these keys, sorted by name, `k:` in fieldsV1.
    Key(Box<[(Box<str>, Value)]>),
    /// The item of a set with this value, `v:` in fieldsV1.
    Value(Value),
    /// The item at this place, `i:` in fieldsV1.
    Index(i64),
}

impl PathElement {
    /// The element as fieldsV1 writes it: `f:spec`, `k:{"name":"a"}`, `v:"x"`, `i:0`.
    pub(super) fn encode(&self) -> String {
        match self {
            PathElement::Field(name) => format!("f:{name}"),
            PathElement::Key(keys) => {
                let mut text = String::from("k:{");
                for (i, (name, value)) in keys.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    text.push_str(&Value::String(name.to_string()).to_string());
                    text.push(':');
                    text.push_str(&value.to_string());
                }
                text.push('}');
                text
            }
            PathElement::Value(value) => format!("v:{value}"),
            PathElement::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads [`PathElement::encode`]'s text; None for a kind of element that is not known, which
    /// a later version may have written.
    pub(super) fn decode(text: &str) -> Result<Option<Self>, String> {
        if text.len() < 2 {
            return Err("key must be 2 characters long:".to_owned());
        }
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
            return Err(format!("missing colon: {text}"));
        };
        Ok(Some(match kind {
            "f" => PathElement::Field(rest.into()),
            "v" => PathElement::Value(serde_json::from_str(rest).map_err(|e| e.to_string())?),
            "i" => PathElement::Index(rest.parse().map_err(|_| {
                format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(rest))
            })?),
            "k" => {
                let keys: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|e| e.to_string())?;
                PathElement::Key(keys.into_iter().map(|(k, v)| (k.into(), v)).collect())
            }
            _ => return Ok(None),
        }))
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(keys) => {
                f.write_str("[")?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", show(value))?;
                }
                f.write_str("]")
            }
            PathElement::Value(value) => write!(f, "[={}]", show(value)),
            PathElement::Index(index) => write!(f, "[{index}]"),
        }
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(","))
        }
        Value::Object(fields) => fields.iter().map(|(k, v)| format!("{k}={}", show(v))).collect(),
        scalar => scalar.to_string(),
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        use PathElement::{Field, Index, Key, Value};
        match (self, other) {
            (Field(a), Field(b)) => a.cmp(b),
            (Key(a), Key(b)) => {
                let pairs = a.iter().zip(b.iter());
                pairs
                    .map(|(a, b)| a.0.cmp(&b.0).then_with(|| compare_values(&a.1, &b.1)))
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Value(a), Value(b)) => compare_values(a, b),
            (Index(a), Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PathElement {
    fn rank(&self) -> u8 {
        match self {
            PathElement::Field(_) => 0,
            PathElement::Key(_) => 1,
            PathElement::Value(_) => 2,
            PathElement::Index(_) => 3,
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

/// Order of all JSON values: numbers by value, then strings, booleans, lists, objects, null.
pub(super) fn compare_values(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let unequal = a.iter().zip(b).map(|(a, b)| compare_values(a, b)).find(|o| o.is_ne());
            unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().zip(b);
            let orders =
                pairs.map(|((ak, av), (bk, bv))| ak.cmp(bk).then_with(|| compare_values(av, bv)));
            orders.into_iter().find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (a, b) => value_rank(a).cmp(&value_rank(b)),
    }
}

/// Whether two values are the same, `1` and `1.0` included.
pub(super) fn equal_values(a: &Value, b: &Value) -> bool {
    a == b || compare_values(a, b).is_eq()
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            a.total_cmp(&b)
        }
    }
}

fn value_rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}
