//! Custom resources as OpenAPI schemas: what their CustomResourceDefinition gives, with what every
//! Kubernetes object has. Rules are those of upstream's `apiextensions-apiserver`.

use serde_json::{Map, Value, json};

use super::{Dialect, Kind};

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an \
    object. Servers should convert recognized schemas to the latest internal value, and may reject \
    unrecognized values. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. \
    Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In \
    CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation \
    of an object. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In \
    CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// What a schema of a custom resource may say.
const KEYWORDS: [&str; 37] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "uniqueItems",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// The schema of a custom resource.
pub(super) fn object(kind: &Kind<'_>, schema: &Value, dialect: Dialect) -> Value {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    let open = yes(&schema, "x-kubernetes-preserve-unknown-fields");
    // kubectl takes fields that are named for all that there are.
    let mut schema = if schema.is_empty() || dialect == Dialect::V2 && open {
        Map::from_iter([("type".to_owned(), "object".into())])
    } else {
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for own in ["apiVersion", "kind", "metadata"] {
                properties.remove(own);
            }
        }
        convert(&mut schema, dialect);
        has_object_meta(&mut schema, [API_VERSION, KIND], dialect);
        schema
    };
    schema.insert("x-kubernetes-group-version-kind".into(), json!([gvk(kind, false)]));
    Value::Object(schema)
}

/// The schema of a list of custom resources.
pub(super) fn list(kind: &Kind<'_>, item: &str, dialect: Dialect) -> Value {
    let r = kind.resource;
    let items = format!(
        "List of {}. More info: \
         https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        r.plural
    );
    json!({
        "description": format!("{} is a list of {}", r.list_kind, r.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "items": {
                "description": items, "type": "array", "items": dialect.reference(item),
            },
            "kind": {"description": KIND, "type": "string"},
            "metadata": described(dialect, LIST_META, LIST_METADATA),
        },
        "x-kubernetes-group-version-kind": [gvk(kind, true)],
    })
}

fn gvk(kind: &Kind<'_>, list: bool) -> Value {
    let r = kind.resource;
    let name = if list { &r.list_kind } else { &r.kind };
    json!({"group": r.group, "version": r.version, "kind": name})
}

fn described(dialect: Dialect, name: &str, description: &str) -> Value {
    let mut reference = dialect.reference(name);
    if dialect == Dialect::V3 {
        reference = json!({"allOf": [reference]});
    }
    reference["description"] = description.into();
    reference
}

fn has_object_meta(schema: &mut Map<String, Value>, descriptions: [&str; 2], dialect: Dialect) {
    let properties = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(properties) = properties else { return };
    for (name, description) in ["apiVersion", "kind"].into_iter().zip(descriptions) {
        let text = json!({"description": description, "type": "string"});
        properties.insert(name.to_owned(), text);
    }
    properties.insert("metadata".to_owned(), described(dialect, OBJECT_META, METADATA));
}

/// Makes a schema one of the dialect, with everything below it.
fn convert(schema: &mut Map<String, Value>, dialect: Dialect) {
    schema.retain(|key, value| KEYWORDS.contains(&key.as_str()) && !value.is_null());
    unfold(schema);
    if dialect == Dialect::V2 {
        to_v2(schema);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(Value::Object(below)) = schema.get_mut(key) {
            convert(below, dialect);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            if let Value::Object(below) = property {
                convert(below, dialect);
            }
        }
    }
    let open = yes(schema, "x-kubernetes-preserve-unknown-fields");
    if yes(schema, "x-kubernetes-embedded-resource") && !(open && dialect == Dialect::V2) {
        has_object_meta(schema, [EMBEDDED_API_VERSION, EMBEDDED_KIND], dialect);
        let required = schema.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|known| known == name) {
                    required.push(name.into());
                }
            }
        }
    }
}

/// Says in standard words that a value is an integer or a string.
fn unfold(schema: &mut Map<String, Value>) {
    if !yes(schema, "x-kubernetes-int-or-string") {
        return;
    }
    let types = json!([{"type": "integer"}, {"type": "string"}]);
    let said = schema.get("anyOf") == Some(&types)
        || schema.get("allOf").and_then(|all| all.get(0)?.get("anyOf")) == Some(&types);
    if said {
        return;
    }
    if schema.contains_key("anyOf") {
        let all = schema.entry("allOf").or_insert_with(|| json!([]));
        if let Value::Array(all) = all {
            all.insert(0, json!({"anyOf": types}));
        }
    } else {
        schema.insert("anyOf".to_owned(), types);
    }
}

/// Drops what v2 cannot say, and what kubectl misunderstands there.
fn to_v2(schema: &mut Map<String, Value>) {
    for key in ["allOf", "anyOf", "oneOf", "not", "default"] {
        schema.remove(key);
    }
    let nullable = schema.remove("nullable") == Some(true.into());
    let open = yes(schema, "x-kubernetes-preserve-unknown-fields");
    if nullable || open {
        schema.remove("items");
        schema.remove("properties");
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let no_items = kind == "array" && !schema.contains_key("items");
    if nullable || no_items || open && kind == "object" {
        schema.remove("type");
    }
    let is_nullable = |below: &Value| below.get("nullable") == Some(&true.into());
    if schema.get("additionalProperties").is_some_and(is_nullable) {
        schema.remove("required");
    }
    let nullable: Vec<String> = match schema.get("properties") {
        Some(Value::Object(all)) => {
            all.iter().filter(|(_, p)| is_nullable(p)).map(|(name, _)| name.clone()).collect()
        }
        _ => Vec::new(),
    };
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !nullable.iter().any(|nullable| name == nullable));
        if required.is_empty() {
            schema.remove("required");
        }
    }
}

fn yes(schema: &Map<String, Value>, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}
