//! JSON text to protobuf messages without values in between: what is stored as JSON is read in
//! protobuf by most controllers, and a value of an object costs ten times its text in memory.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
    value::MapAccessDeserializer,
};
use serde_json::{Map, Value, value::RawValue};

use super::{encode, wire};
use crate::schema::{
    Kind,
    graph::{Field, Graph, NodeId, Wire},
};

/// Writes the message of a struct from its text. The bytes are those of [`encode::message`].
pub(super) fn message(
    graph: &Graph,
    id: NodeId,
    text: &[u8],
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Message { graph, id, out }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The fields of a struct.
struct Message<'a> {
    graph: &'a Graph,
    id: NodeId,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { graph, id, out } = self;
        let node = graph.node(id);
        if graph.type_facets(node).is_some_and(|facets| !facets.inlined.is_empty()) {
            // Its fields are spread over several messages.
            let map: Map<String, Value> =
                serde::Deserialize::deserialize(MapAccessDeserializer::new(map))?;
            return encode::object(graph, id, &map, out).map_err(M::Error::custom);
        }
        while let Some(found) = map.next_key_seed(Name { graph, id })? {
            match found.filter(|field| field.number != 0) {
                Some(field) => {
                    let (id, number) = (field.node, field.number);
                    map.next_value_seed(Written { graph, id, number, item: false, out })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The field that a name means.
struct Name<'a> {
    graph: &'a Graph,
    id: NodeId,
}

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.graph.field(self.graph.node(self.id), name))
    }
}

/// The value of a field, or an item of it.
struct Written<'a> {
    graph: &'a Graph,
    id: NodeId,
    number: u16,
    /// Whether it is an item: what an absent field leaves out, an item must not.
    item: bool,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Written<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let node = self.graph.node(self.id);
        let plain = match node.kind {
            Kind::String | Kind::Boolean | Kind::Integer | Kind::Object | Kind::Map => {
                !self.item || node.kind != Kind::Map
            }
            Kind::Array => !self.item && node.wire != Wire::WrappedList,
            _ => false,
        };
        if plain {
            return deserializer.deserialize_any(self);
        }
        let Self { graph, id, number, item, out } = self;
        if matches!(node.kind, Kind::RawExtension | Kind::FieldsV1 | Kind::Any)
            && !matches!(node.wire, Wire::SchemaOrBool | Wire::SchemaOrArray | Wire::SchemaOrNames)
        {
            let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
            if raw.get() != "null" {
                wire::message(out, number, |out| wire::bytes(out, 1, raw.get().as_bytes()));
            } else if item {
                wire::message(out, number, |_| ());
            }
            return Ok(());
        }
        let value: Value = serde::Deserialize::deserialize(deserializer)?;
        if value.is_null() && !item {
            return Ok(());
        }
        encode::write(graph, id, "", number, &value, out).map_err(D::Error::custom)
    }
}

/// Values of another type than the field's are left out, as by the encoder of values.
impl<'de> Visitor<'de> for Written<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.graph.node(self.id).kind == Kind::Boolean {
            wire::varint(self.out, self.number, u64::from(value));
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if self.graph.node(self.id).kind == Kind::Integer {
            wire::varint(self.out, self.number, value as u64);
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Ok(()),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.graph.node(self.id).kind == Kind::String {
            wire::bytes(self.out, self.number, text.as_bytes());
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        let Self { graph, id, number, out, .. } = self;
        let node = graph.node(id);
        if node.kind != Kind::Array {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let id = node.child;
        while list.next_element_seed(Written { graph, id, number, item: true, out })?.is_some() {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { graph, id, number, out, .. } = self;
        let node = graph.node(id);
        match node.kind {
            Kind::Object => {
                wire::message(out, number, |out| Message { graph, id, out }.visit_map(map))
            }
            Kind::Map => {
                let id = node.child;
                while let Some(key) = map.next_key::<String>()? {
                    wire::message(out, number, |out| {
                        wire::bytes(out, 1, key.as_bytes());
                        map.next_value_seed(Written { graph, id, number: 2, item: true, out })
                    })?;
                }
                Ok(())
            }
            _ => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(())
            }
        }
    }
}
