//! Objects of which only some parts are read: the rest is passed over without becoming values.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// The parts of an object that are wanted, a tree of field names. A list stands for all its items.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// None: everything below.
    fields: Vec<(&'static str, Wanted)>,
}

impl Wanted {
    /// The parts at these dotted paths, or everything where there are none.
    pub fn of(paths: &[&'static str]) -> Self {
        let mut all = Self::default();
        for path in paths {
            let mut at = &mut all;
            for name in path.split('.') {
                let known = at.fields.iter().position(|(field, _)| *field == name);
                let known = known.unwrap_or_else(|| {
                    at.fields.push((name, Self::default()));
                    at.fields.len() - 1
                });
                at = &mut at.fields[known].1;
            }
        }
        all
    }

    /// Reads the wanted parts of a JSON text.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn read(&self, text: &[u8]) -> serde_json::Result<Value> {
        let mut text = serde_json::Deserializer::from_slice(text);
        let value = self.deserialize(&mut text)?;
        text.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.fields.as_slice() {
            [] => Value::deserialize(deserializer),
            _ => deserializer.deserialize_any(self),
        }
    }
}

/// Anything but maps and lists has no parts: it is not what the path meant, and passed over.
impl<'de> Visitor<'de> for &Wanted {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(wanted) = map.next_key_seed(Name(self))? {
            match wanted {
                Some((name, within)) => {
                    found.insert((*name).to_owned(), map.next_value_seed(within)?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            found.push(item);
        }
        Ok(Value::Array(found))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// Finds a field by its name, without keeping the names of the others.
struct Name<'a>(&'a Wanted);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a (&'static str, Wanted)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a (&'static str, Wanted)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|(field, _)| *field == name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(paths: &[&'static str], value: &Value) -> Value {
        Wanted::of(paths).read(&serde_json::to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn only_what_is_wanted_becomes_values() {
        let object = json!({
            "metadata": {"name": "a", "labels": {"x": "y"}},
            "spec": {"containers": [{"name": "c", "image": "i"}, {"image": "j"}], "n": 1.5},
            "status": {"deep": [{"whole": true}]},
        });
        assert_eq!(
            read(&["metadata.name", "spec.containers.name", "status", "none.at.all"], &object),
            json!({
                "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "c"}, {}]},
                "status": {"deep": [{"whole": true}]},
            })
        );
        assert_eq!(read(&[], &object), object);
    }

    #[test]
    fn what_is_no_map_has_no_parts() {
        for odd in [json!(null), json!(true), json!(-1), json!(1), json!(0.5), json!("text")] {
            assert_eq!(read(&["a.b"], &json!({"a": odd})), json!({"a": null}));
        }
        assert!(Wanted::of(&["a"]).read(b"{\"a\":").is_err());
        assert!(Wanted::of(&["a"]).read(b"{}x").is_err());
    }
}
