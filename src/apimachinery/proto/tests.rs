//! Every built-in kind survives the way through protobuf, and no bytes do harm.

use serde_json::{Map, Value, json};

use super::*;
use crate::schema::{
    Kind, builtin_kinds,
    graph::{Field, Graph, NodeId, Wire},
};

/// A small generator of numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Whether a field has a place in protobuf: its own number, or that of an inlined struct.
fn in_protobuf(graph: &Graph, owner: NodeId, field: &Field) -> bool {
    let name = graph.name(field);
    field.number != 0
        || graph.type_facets(graph.node(owner)).is_some_and(|facets| {
            facets.inlined.iter().any(|(_, inlined)| {
                let found = graph.field(graph.node(*inlined), name);
                found.is_some_and(|field| in_protobuf(graph, *inlined, field))
            })
        })
}

/// Any value of a type.
fn generate(graph: &Graph, id: NodeId, random: &mut Random, depth: u32) -> Value {
    let node = graph.node(id);
    match node.kind {
        Kind::Object => {
            let mut map = Map::new();
            for field in graph.fields(node) {
                let chance = if depth < 2 { 4 } else { 3 + 2 * u64::from(depth) };
                let wanted = random.below(chance) < 3 && depth < 9;
                if wanted && in_protobuf(graph, id, field) {
                    let value = generate(graph, field.node, random, depth + 1);
                    map.insert(graph.name(field).to_owned(), value);
                }
            }
            Value::Object(map)
        }
        Kind::Map => {
            let entry = |i| (format!("key-{i}"), generate(graph, node.child, random, depth + 1));
            Value::Object((0..=random_count(depth)).map(entry).collect())
        }
        Kind::Array => {
            let items =
                (0..=random_count(depth)).map(|_| generate(graph, node.child, random, depth + 1));
            items.collect()
        }
        Kind::String => ["a", "", "käse", "a\"b\n"][random.below(4) as usize].into(),
        Kind::Integer if node.wire == Wire::Int32 => {
            (random.next() as i32 >> random.below(32)).into()
        }
        Kind::Integer => (random.next() as i64 >> random.below(64)).into(),
        Kind::Number => json!([0.5, -1.25, 3.0, 1e300][random.below(4) as usize]),
        Kind::Boolean => (random.below(2) == 0).into(),
        Kind::IntOrString => match random.below(2) {
            0 => json!(random.next() as i32),
            _ => json!("25%"),
        },
        Kind::Quantity => ["0", "100m", "1.5Gi", "12e6", "0.1"][random.below(5) as usize].into(),
        Kind::Time => "2024-02-29T12:34:56Z".into(),
        Kind::MicroTime => "1969-12-31T23:59:59.000001Z".into(),
        Kind::Duration => "1h30m0s".into(),
        Kind::Bytes => ["", "AA==", "aGVsbG8="][random.below(3) as usize].into(),
        Kind::RawExtension | Kind::FieldsV1 => json!({"f:metadata": {"x": [1, 2.5, null]}}),
        Kind::Any => match node.wire {
            Wire::SchemaOrBool => json!(random.below(2) == 0),
            Wire::SchemaOrArray => json!([{"type": "string"}, {"type": "object"}]),
            Wire::SchemaOrNames => json!(["a", "b"]),
            _ => json!({"any": ["thing"]}),
        },
    }
}

fn random_count(depth: u32) -> u32 {
    u32::from(depth < 3)
}

#[test]
fn every_kind_survives_a_round_trip() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut kinds = 0;
    for (api_version, kind, schema) in builtin_kinds() {
        // Tables are only ever JSON.
        if kind == "Table" {
            continue;
        }
        for _ in 0..8 {
            let mut value = generate(schema.graph(), schema.id(), &mut random, 0);
            let unknown = schema.conform(&mut value).unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert!(unknown.is_empty(), "{kind}: {unknown:?}");
            let text = value.to_string();
            let decoded = schema.decode_json(text.as_bytes()).unwrap();
            assert_eq!(decoded.value, value, "canonical JSON of {kind} is read as it is");
            let mut written = Vec::new();
            transcode(&schema, text.as_bytes(), &mut written).unwrap();
            assert_eq!(written, encode(&schema, &value).unwrap(), "{kind} from text: {text}");
            assert!(decoded.strict.is_empty(), "{kind}: {:?}", decoded.strict);
            let bytes = encode(&schema, &value).unwrap();
            let back = decode(&schema, &bytes).unwrap_or_else(|e| panic!("{kind}: {e}"));
            assert_eq!(back, value, "{api_version} {kind}");
        }
        kinds += 1;
    }
    assert!(kinds > 150, "{kinds} kinds");
}

#[test]
fn hostile_bytes_do_no_harm() {
    let mut random = Random(7);
    let pod = builtin("", "v1", "Pod").unwrap();
    let crd = builtin("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    for schema in [pod, crd] {
        let value = generate(schema.graph(), schema.id(), &mut random, 0);
        let bytes = encode(&schema, &value).unwrap();
        for _ in 0..20_000 {
            let mut broken = bytes.clone();
            for _ in 0..=random.below(3) {
                match random.below(3) {
                    0 => broken.truncate(random.below(broken.len() as u64 + 1) as usize),
                    _ if broken.is_empty() => {}
                    1 => {
                        let at = random.below(broken.len() as u64) as usize;
                        broken[at] = random.next() as u8;
                    }
                    _ => {
                        let at = random.below(broken.len() as u64) as usize;
                        broken.insert(at, random.next() as u8);
                    }
                }
            }
            let _ = decode(&schema, &broken);
        }
        let noise: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
        let _ = (decode(&schema, &noise), decode_object(&noise, None), read_watch_frame(&noise));
    }
}

#[test]
fn refuses_bottomless_messages() {
    let crd = builtin("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    // `items` of a schema in a schema, a schema in it, and so on.
    let mut schema = Vec::new();
    for _ in 0..2000 {
        let mut or_array = Vec::new();
        wire::bytes(&mut or_array, 1, &schema);
        schema.clear();
        wire::bytes(&mut schema, 24, &or_array);
    }
    let mut bytes = schema;
    for number in [1, 4, 7, 2] {
        let mut outer = Vec::new();
        wire::bytes(&mut outer, number, &bytes);
        bytes = outer;
    }
    assert_eq!(decode(&crd, &bytes), Err(ProtoError::Depth));
}

#[test]
fn reads_and_writes_what_upstream_does() {
    // A ConfigMap as Kubernetes v1.37's API server writes it.
    let bytes = b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\xa7\x01\n\x9c\x01\n\x01a\x12\0\
        \x1a\x07default\"\0*$74642983-be95-4182-937a-11ac36b505b92\x036548\0\
        B\x08\x08\xf9\xbe\x91\xd8\x06\x10\0\x8a\x01R\n\x0ekubectl-create\x12\x06Update\
        \x1a\x02v1\"\x08\x08\xf9\xbe\x91\xd8\x06\x10\x002\x08FieldsV1:\x1e\n\x1c\
        {\"f:data\":{\".\":{},\"f:k\":{}}}B\0\x12\x06\n\x01k\x12\x01v\x1a\0\"\0";
    let value = json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {
            "name": "a",
            "namespace": "default",
            "uid": "74642983-be95-4182-937a-11ac36b505b9",
            "resourceVersion": "654",
            "creationTimestamp": "2026-11-23T15:44:57Z",
            "managedFields": [{
                "manager": "kubectl-create",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2026-11-23T15:44:57Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {".": {}, "f:k": {}}},
            }],
        },
        "data": {"k": "v"},
    });
    assert_eq!(decode_object(bytes, None).unwrap(), value);
    let written = encode_object(&value).unwrap();
    assert_eq!(decode_object(&written, None).unwrap(), value);
    // Upstream also writes the empty strings and the zero generation.
    assert!(written.len() < bytes.len());
}

#[test]
fn the_url_names_what_the_envelope_does_not() {
    let raw = encode(&builtin("", "v1", "Namespace").unwrap(), &json!({})).unwrap();
    let sealed = Envelope { raw: &raw, ..Envelope::default() }.seal();
    let value = decode_object(&sealed, Some(("v1", "Namespace"))).unwrap();
    assert_eq!(value["kind"], "Namespace");
    assert!(matches!(decode_object(&sealed, None), Err(ProtoError::UnknownKind { .. })));
    assert_eq!(decode_object(b"{}", None), Err(ProtoError::Prefix));
}

#[test]
fn frames_watch_events() {
    let object = encode_object(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "5"},
    }))
    .unwrap();
    let mut stream = watch_frame("ADDED", &object);
    stream.extend(watch_frame("DELETED", &object));
    let (event, bytes, rest) = read_watch_frame(&stream).unwrap().unwrap();
    assert_eq!((event, bytes), ("ADDED", &object[..]));
    assert_eq!(decode_object(bytes, None).unwrap()["metadata"]["resourceVersion"], "5");
    let (event, _, rest) = read_watch_frame(rest).unwrap().unwrap();
    assert_eq!((event, rest), ("DELETED", &[][..]));
    assert_eq!(read_watch_frame(&stream[..10]), Ok(None));
}

#[test]
fn lists_are_put_together_from_messages() {
    let schema = builtin("", "v1", "Secret").unwrap();
    let secret = json!({"metadata": {"name": "a"}, "data": {"k": "AAE="}, "type": "Opaque"});
    let mut items = Vec::new();
    for _ in 0..2 {
        encode_item(&schema, secret.to_string().as_bytes(), &mut items).unwrap();
    }
    let metadata = json!({"resourceVersion": "7"});
    let frame = ListFrame::new("v1", "SecretList", &metadata, items.len()).unwrap();
    let list = [frame.head, items, frame.tail].concat();
    assert_eq!(
        decode_object(&list, None).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "SecretList",
            "metadata": {"resourceVersion": "7"}, "items": [secret, secret],
        })
    );
}
