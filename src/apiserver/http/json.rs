//! JSON text into a value, noticing what a plain parser lets pass: fields that occur twice.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses one JSON document. The second result names the duplicate fields, as paths such as
/// `spec.replicas` or `items[0].name`; the last value wins, as in Go.
///
/// # Errors
/// When `text` is not JSON, has something after the document, or is nested too deep (128 levels).
pub fn parse(text: &[u8]) -> serde_json::Result<(Value, Vec<String>)> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Seed { duplicates: &duplicates }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    let paths = duplicates.into_inner().into_iter().map(|mut path: String| {
        // Every level put its step in front, fields with a dot before them.
        if path.starts_with('.') {
            path.remove(0);
        }
        path
    });
    let paths = paths.collect();
    Ok((value, paths))
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    duplicates: &'a RefCell<Vec<String>>,
}

impl Seed<'_> {
    fn found(self) -> usize {
        self.duplicates.borrow().len()
    }

    /// Puts a step in front of the paths found since there were `before`.
    fn prefix(self, before: usize, step: impl FnOnce() -> String) {
        let mut duplicates = self.duplicates.borrow_mut();
        if duplicates.len() > before {
            let step = step();
            for path in &mut duplicates[before..] {
                path.insert_str(0, &step);
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a JSON number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let mut before = self.found();
        while let Some(item) = access.next_element_seed(self)? {
            self.prefix(before, || format!("[{}]", items.len()));
            before = self.found();
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let before = self.found();
            let value = access.next_value_seed(self)?;
            self.prefix(before, || format!(".{name}"));
            if fields.contains_key(&name) {
                self.duplicates.borrow_mut().push(format!(".{name}"));
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_fields_that_occur_twice() {
        let text = br#"{"a":1,"b":[{"c":1,"c":2}],"a":{"d":null,"d":true},"n":-1.5}"#;
        let (value, duplicates) = parse(text).unwrap();
        assert_eq!(value, json!({"a": {"d": true}, "b": [{"c": 2}], "n": -1.5}));
        assert_eq!(duplicates, ["b[0].c", "a.d", "a"]);
    }

    #[test]
    fn agrees_with_the_plain_parser() {
        let text = br#"{"s":"\u00e9\n","i":18446744073709551615,"e":[],"o":{},"f":1e300}"#;
        assert_eq!(parse(text).unwrap(), (serde_json::from_slice(text).unwrap(), vec![]));
    }

    #[test]
    fn refuses_hostile_text() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        for text in [&deep[..], b"{} {}", b"", b"{\"a\":", b"\xff", b"{\"a\":1e999}", b"nul"] {
            assert!(parse(text).is_err());
        }
    }
}
