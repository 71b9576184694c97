//! OpenAPI v2 in protobuf, after gnostic's `openapi/v2/OpenAPIv2.proto`. The document is written
//! piece by piece: a field that occurs several times is one message, by the rules of protobuf.

use serde_json::{Map, Value};

use crate::proto::wire::{bytes, fixed64, message, varint};

/// How a keyword is written in a message.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Flag,
    Count,
    Float,
    /// Any value, as YAML, of which JSON is a part.
    Any,
    Anys,
    Schema,
    Schemas,
    /// Named schemas.
    Properties,
    /// A schema or a boolean.
    SchemaOrFlag,
    /// One name or several.
    Type,
    /// A list of one schema.
    Items,
    Documents,
}

/// Keyword, field number, form.
type Table = &'static [(&'static str, u16, Form)];

const SCHEMA: Table = &[
    ("$ref", 1, Form::Text),
    ("format", 2, Form::Text),
    ("title", 3, Form::Text),
    ("description", 4, Form::Text),
    ("default", 5, Form::Any),
    ("multipleOf", 6, Form::Float),
    ("maximum", 7, Form::Float),
    ("exclusiveMaximum", 8, Form::Flag),
    ("minimum", 9, Form::Float),
    ("exclusiveMinimum", 10, Form::Flag),
    ("maxLength", 11, Form::Count),
    ("minLength", 12, Form::Count),
    ("pattern", 13, Form::Text),
    ("maxItems", 14, Form::Count),
    ("minItems", 15, Form::Count),
    ("uniqueItems", 16, Form::Flag),
    ("maxProperties", 17, Form::Count),
    ("minProperties", 18, Form::Count),
    ("required", 19, Form::Texts),
    ("enum", 20, Form::Anys),
    ("additionalProperties", 21, Form::SchemaOrFlag),
    ("type", 22, Form::Type),
    ("items", 23, Form::Items),
    ("allOf", 24, Form::Schemas),
    ("properties", 25, Form::Properties),
    ("externalDocs", 29, Form::Documents),
    ("example", 30, Form::Any),
];
const SCHEMA_EXTENSION: u16 = 31;

const QUERY: Table = &[
    ("required", 1, Form::Flag),
    ("in", 2, Form::Text),
    ("description", 3, Form::Text),
    ("name", 4, Form::Text),
    ("type", 6, Form::Text),
    ("uniqueItems", 20, Form::Flag),
];
const PATH: Table = &[
    ("required", 1, Form::Flag),
    ("in", 2, Form::Text),
    ("description", 3, Form::Text),
    ("name", 4, Form::Text),
    ("type", 5, Form::Text),
    ("uniqueItems", 19, Form::Flag),
];
const BODY: Table = &[
    ("description", 1, Form::Text),
    ("name", 2, Form::Text),
    ("in", 3, Form::Text),
    ("required", 4, Form::Flag),
    ("schema", 5, Form::Schema),
];
const OPERATION: Table = &[
    ("tags", 1, Form::Texts),
    ("description", 3, Form::Text),
    ("operationId", 5, Form::Text),
    ("produces", 6, Form::Texts),
    ("consumes", 7, Form::Texts),
    ("schemes", 10, Form::Texts),
];
const METHODS: [(&str, u16); 7] =
    [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)];
const INFO: Table = &[("title", 1, Form::Text), ("version", 2, Form::Text)];
const DOCUMENTS: Table = &[("description", 1, Form::Text), ("url", 2, Form::Text)];
const API_KEY: Table = &[
    ("type", 1, Form::Text),
    ("name", 2, Form::Text),
    ("in", 3, Form::Text),
    ("description", 4, Form::Text),
];

/// The parts of a document that are not lists.
pub(super) fn start(info: &Value, security: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, "2.0");
    message(&mut out, 2, |out| write(out, INFO, info, None));
    for (name, definition) in security.as_object().into_iter().flatten() {
        message(&mut out, 12, |out| named(out, 1, name, |_| {}));
        message(&mut out, 13, |out| {
            named(out, 1, name, |out| {
                message(out, 2, |out| write(out, API_KEY, definition, None));
            });
        });
    }
    out
}

/// A path and its operations.
pub(super) fn path(out: &mut Vec<u8>, path: &str, item: &Value) {
    message(out, 8, |out| {
        named(out, 2, path, |out| {
            for (method, number) in METHODS {
                if let Some(operation) = item.get(method) {
                    message(out, number, |out| self::operation(out, operation));
                }
            }
            parameters(out, 9, item);
        });
    });
}

/// A definition and its schema.
pub(super) fn definition(out: &mut Vec<u8>, name: &str, schema: &Value) {
    message(out, 9, |out| named(out, 1, name, |out| self::schema(out, schema)));
}

fn operation(out: &mut Vec<u8>, operation: &Value) {
    write(out, OPERATION, operation, Some(13));
    parameters(out, 8, operation);
    let responses = operation.get("responses").and_then(Value::as_object);
    message(out, 9, |out| {
        for (code, response) in responses.into_iter().flatten() {
            named(out, 1, code, |out| {
                message(out, 1, |out| {
                    let description = response.get("description").and_then(Value::as_str);
                    text(out, 1, description.unwrap_or_default());
                    if let Some(schema) = response.get("schema") {
                        message(out, 2, |out| message(out, 1, |out| self::schema(out, schema)));
                    }
                });
            });
        }
    });
}

fn parameters(out: &mut Vec<u8>, number: u16, of: &Value) {
    for parameter in of.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        // A choice of a choice of a choice.
        message(out, number, |out| {
            message(out, 1, |out| match parameter.get("in").and_then(Value::as_str) {
                Some("body") => message(out, 1, |out| write(out, BODY, parameter, Some(6))),
                place => message(out, 2, |out| {
                    let (table, number) =
                        if place == Some("path") { (PATH, 4) } else { (QUERY, 3) };
                    message(out, number, |out| write(out, table, parameter, None));
                }),
            });
        });
    }
}

fn schema(out: &mut Vec<u8>, schema: &Value) {
    write(out, SCHEMA, schema, Some(SCHEMA_EXTENSION));
}

/// Writes the keywords of an object, and its extensions to the field of that number.
fn write(out: &mut Vec<u8>, table: Table, object: &Value, extension: Option<u16>) {
    let empty = Map::new();
    for (key, value) in object.as_object().unwrap_or(&empty) {
        if let Some((_, number, form)) = table.iter().find(|(keyword, ..)| keyword == key) {
            put(out, *number, *form, value);
        } else if let Some(number) = extension.filter(|_| key.starts_with("x-")) {
            named(out, number, key, |out| any(out, value));
        }
    }
}

fn put(out: &mut Vec<u8>, number: u16, form: Form, value: &Value) {
    let list = || value.as_array().into_iter().flatten();
    match form {
        Form::Text => text(out, number, value.as_str().unwrap_or_default()),
        Form::Texts => {
            list().for_each(|item| text(out, number, item.as_str().unwrap_or_default()));
        }
        Form::Flag => varint(out, number, u64::from(value == &Value::Bool(true))),
        Form::Count => varint(out, number, value.as_i64().unwrap_or_default() as u64),
        Form::Float => fixed64(out, number, value.as_f64().unwrap_or_default().to_bits()),
        Form::Any => message(out, number, |out| any(out, value)),
        Form::Anys => list().for_each(|item| message(out, number, |out| any(out, item))),
        Form::Schema => message(out, number, |out| schema(out, value)),
        Form::Schemas => list().for_each(|item| message(out, number, |out| schema(out, item))),
        Form::Properties => message(out, number, |out| {
            for (name, value) in value.as_object().into_iter().flatten() {
                named(out, 1, name, |out| schema(out, value));
            }
        }),
        Form::SchemaOrFlag => message(out, number, |out| match value {
            Value::Bool(value) => varint(out, 2, u64::from(*value)),
            value => message(out, 1, |out| schema(out, value)),
        }),
        Form::Type => message(out, number, |out| match value {
            Value::String(name) => text(out, 1, name),
            _ => list().for_each(|name| text(out, 1, name.as_str().unwrap_or_default())),
        }),
        Form::Items => {
            message(out, number, |out| message(out, 1, |out| schema(out, value)));
        }
        Form::Documents => message(out, number, |out| write(out, DOCUMENTS, value, Some(3))),
    }
}

fn any(out: &mut Vec<u8>, value: &Value) {
    text(out, 2, &value.to_string());
}

/// A name and a value.
fn named(out: &mut Vec<u8>, number: u16, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    message(out, number, |out| {
        text(out, 1, name);
        message(out, 2, value);
    });
}

fn text(out: &mut Vec<u8>, number: u16, text: &str) {
    bytes(out, number, text.as_bytes());
}
