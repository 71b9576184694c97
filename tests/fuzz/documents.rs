//! Objects as they arrive: JSON and protobuf, by the schema of a kind.

use apimachinery::{
    Object, proto,
    schema::{self, Schema},
};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    engine::{Random, fuzz, mutate_json, mutated},
    seeds,
};

fn schema_of(object: &Value) -> Option<Schema> {
    let version = object["apiVersion"].as_str()?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    schema::builtin(group, version, object["kind"].as_str()?)
}

fn texts() -> Vec<Vec<u8>> {
    seeds::objects().iter().map(|object| object.to_string().into_bytes()).collect()
}

/// A JSON text that is mostly one still.
fn changed_object(random: &mut Random) -> Vec<u8> {
    let mut object = random.pick(&seeds::objects()).clone();
    for _ in 0..1 + random.below(4) {
        mutate_json(random, &mut object, seeds::WORDS);
    }
    object.to_string().into_bytes()
}

#[test]
fn json_is_read_alike_twice_or_refused() {
    let texts = texts();
    let words = ["[", "{\"a\":", "\"", "\\ud800", "\\u0000", "null", ",", "\u{feff}", "//"];
    fuzz(
        "json",
        |random| mutated(random, &texts, &words),
        |input| {
            let _ = Object::parse_index(Bytes::copy_from_slice(input), &["spec.nodeName"]);
            let Ok(read) = schema::decode_json(input) else { return };
            let again = schema::decode_json(read.value.to_string().as_bytes()).unwrap();
            assert_eq!(again.value, read.value);
        },
    );
}

#[test]
fn an_object_that_was_read_by_its_schema_stays_as_it_is() {
    fuzz("objects", changed_object, |input| {
        let Ok(free) = serde_json::from_slice::<Value>(input) else { return };
        let Some(schema) = schema_of(&free) else { return };
        let Ok(read) = schema.decode_json(input) else { return };
        let mut again = read.value.clone();
        let strict = schema.conform(&mut again).unwrap();
        assert_eq!(again, read.value);
        assert!(strict.is_empty(), "{strict:?} of what has been pruned");
    });
}

/// The value without nulls, empty lists and empty strings, which protobuf does not tell apart.
fn without_nothing(value: &Value) -> Value {
    let is_nothing =
        |value: &Value| value.is_null() || *value == "" || *value == Value::Array(Vec::new());
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !is_nothing(value));
            Value::Object(
                fields.map(|(key, value)| (key.clone(), without_nothing(value))).collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nothing).collect()),
        other => other.clone(),
    }
}

#[test]
fn an_object_is_the_same_after_protobuf() {
    fuzz("round-trip", changed_object, |input| {
        let Ok(free) = serde_json::from_slice::<Value>(input) else { return };
        // A kind of its own has no protobuf form.
        let Some(schema) = schema_of(&free) else { return };
        let Ok(read) = schema.decode_json(input) else { return };
        let Ok(bytes) = proto::encode_object(&read.value) else { return };
        let mut back = proto::decode_object(&bytes, None).unwrap();
        schema.conform(&mut back).unwrap();
        assert_eq!(without_nothing(&back), without_nothing(&read.value));
    });
}

#[test]
fn protobuf_is_read_or_refused() {
    let seeds: Vec<Vec<u8>> =
        seeds::objects().iter().filter_map(|object| proto::encode_object(object).ok()).collect();
    assert!(seeds.len() >= 4);
    fuzz(
        "protobuf",
        |random| mutated(random, &seeds, &["\u{0}", "\n\u{7f}", "k8s\u{0}"]),
        |input| {
            let Ok(object) = proto::decode_object(input, None) else { return };
            // What was read can be written, unless it names a kind of its own.
            if let Ok(bytes) = proto::encode_object(&object) {
                proto::decode_object(&bytes, None).unwrap();
            }
        },
    );
}
