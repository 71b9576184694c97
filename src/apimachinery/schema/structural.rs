//! Whether a custom resource's schema is structural: every value has one known type, and the
//! logical junctors only restrict values. Rules and wordings are those of upstream's
//! `apiextensions-apiserver/pkg/apiserver/schema`.

use serde_json::{Map, Value, json};

use super::crd::MAX_DEPTH;
use crate::field::{FieldError, Path};

type Schema = Map<String, Value>;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Why a schema is not structural, in the order in which upstream reports it.
pub fn errors(schema: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if depth(schema) > MAX_DEPTH {
        let detail = format!("must not be nested deeper than {MAX_DEPTH} levels");
        return vec![FieldError::forbidden(path, &detail)];
    }
    let Some(root) = schema.as_object() else {
        return vec![FieldError::required(&path.child("type"), "must not be empty at the root")];
    };
    invariants(root, Level::Root, path, &mut errors);
    completeness(root, Some(root), path, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn depth(value: &Value) -> usize {
    // The levels of JSON, of which a level of schema takes one (`items`) or two (`properties`).
    fn levels(value: &Value, limit: usize) -> usize {
        if limit == 0 {
            return 0;
        }
        let deepest = match value {
            Value::Object(map) => map.values().map(|v| levels(v, limit - 1)).max(),
            Value::Array(list) => list.iter().map(|v| levels(v, limit - 1)).max(),
            _ => return 0,
        };
        1 + deepest.unwrap_or(0)
    }
    levels(value, 2 * MAX_DEPTH + 2) / 2
}

/// Keywords of JSON schema that custom resources may not use.
const UNSUPPORTED: [&str; 6] =
    ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

fn unsupported(s: &Schema, path: &Path, errors: &mut Vec<FieldError>) {
    for keyword in UNSUPPORTED.into_iter().filter(|keyword| given(s, keyword)) {
        let detail = format!("{keyword} is not supported");
        errors.push(FieldError::forbidden(&path.child(keyword), &detail));
    }
    if s.get("items").is_some_and(Value::is_array) {
        let detail = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&path.child("items"), detail));
    }
}

fn invariants(s: &Schema, level: Level, path: &Path, errors: &mut Vec<FieldError>) {
    unsupported(s, path, errors);
    let kind = text(s, "type");
    match object(s, "items") {
        Some(items) => invariants(items, Level::Item, &path.child("items"), errors),
        None if kind == "array" && !s.contains_key("items") => {
            errors.push(FieldError::required(&path.child("items"), "must be specified"));
        }
        None => {}
    }
    for (name, schema) in properties(s) {
        let path = path.child("properties").key(name);
        invariants(schema, Level::Field, &path, errors);
    }
    let embedded = yes(s, "x-kubernetes-embedded-resource");
    let preserve = yes(s, "x-kubernetes-preserve-unknown-fields");
    let int_or_string = yes(s, "x-kubernetes-int-or-string");
    if given(s, "additionalProperties") {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if let Some(values) = object(s, "additionalProperties") {
            invariants(values, Level::Field, &path, errors);
        }
        if embedded {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    let must_be_false = "must be false if x-kubernetes-int-or-string is true";
    for (set, name) in [
        (preserve, "x-kubernetes-preserve-unknown-fields"),
        (embedded, "x-kubernetes-embedded-resource"),
    ] {
        if int_or_string && set {
            errors.push(FieldError::invalid(&path.child(name), true, must_be_false));
        }
    }

    // An integer or string may say so in anyOf, or in the anyOf of the first allOf.
    let patterned = |s: &Schema| s.get("anyOf") == Some(&int_or_string_types());
    let any_of = patterned(s);
    let all_of = list(s, "allOf").first().and_then(Value::as_object).is_some_and(patterned);
    value_validation(s, any_of, all_of, path, errors);

    let type_path = path.child("type");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(&type_path, detail),
            _ => FieldError::invalid(&type_path, kind, detail),
        });
    } else if kind.is_empty() && !int_or_string && !preserve {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&type_path, detail));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&type_path, kind, "must be object at the root"));
    }
    metadata(s, level, embedded, path, errors);
    if embedded && !preserve && properties(s).next().is_none() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

/// What a schema of a Kubernetes object may say of what every such object has.
fn metadata(s: &Schema, level: Level, embedded: bool, path: &Path, errors: &mut Vec<FieldError>) {
    let is_object = level == Level::Root || embedded;
    let properties = path.child("properties");
    for (name, schema) in self::properties(s) {
        let path = properties.key(name);
        let kind = text(schema, "type");
        match name {
            "kind" | "apiVersion" if is_object && kind != "string" => {
                errors.push(FieldError::invalid(&path.child("type"), kind, "must be string"));
            }
            "metadata" if is_object && kind != "object" => {
                errors.push(FieldError::invalid(&path.child("type"), kind, "must be object"));
            }
            _ => {}
        }
        if name == "metadata" && level == Level::Root {
            let names_only = match object(schema, "properties") {
                Some(names) => names.keys().all(|n| n == "name" || n == "generateName"),
                None => true,
            };
            let structure = [
                "description",
                "title",
                "nullable",
                "externalDocs",
                "example",
                "items",
                "additionalProperties",
                "x-kubernetes-preserve-unknown-fields",
                "x-kubernetes-embedded-resource",
                "x-kubernetes-int-or-string",
                "x-kubernetes-list-type",
                "x-kubernetes-list-map-keys",
                "x-kubernetes-map-type",
                "x-kubernetes-validations",
            ];
            let value = ["required", "enum", "allOf", "anyOf", "oneOf", "not", "maxProperties"];
            let more = structure.iter().chain(&value).any(|keyword| given(schema, keyword));
            if !names_only || more {
                let detail = "must not specify anything other than name and generateName, but \
                              metadata is implicitly specified";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
}

fn int_or_string_types() -> Value {
    json!([{"type": "integer"}, {"type": "string"}])
}

/// The junctors of a schema. `any_of`: its anyOf is that of an integer or string; `all_of`: so is
/// the anyOf in its first allOf.
fn value_validation(
    s: &Schema,
    any_of: bool,
    all_of: bool,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    for junctor in ["anyOf", "allOf", "oneOf"] {
        if any_of && junctor == "anyOf" {
            continue;
        }
        for (i, schema) in list(s, junctor).iter().enumerate() {
            if let Some(schema) = schema.as_object() {
                let skip = all_of && junctor == "allOf" && i == 0;
                nested(schema, skip, &path.child(junctor).index(i), errors);
            }
        }
    }
    if let Some(not) = object(s, "not") {
        nested(not, false, &path.child("not"), errors);
    }
    let pattern = text(s, "pattern");
    if !pattern.is_empty()
        && let Err(error) = regex::Regex::new(pattern)
    {
        // The last line of several says what is wrong.
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let detail = format!(
            "must be a valid regular expression, but isn't: error parsing regexp: {why}: `{pattern}`"
        );
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, &detail));
    }
}

/// A schema below a junctor: it may not say anything of structure.
fn nested(s: &Schema, any_of: bool, path: &Path, errors: &mut Vec<FieldError>) {
    unsupported(s, path, errors);
    value_validation(s, any_of, false, path, errors);
    if let Some(items) = object(s, "items") {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, schema) in properties(s) {
        let path = path.child("properties").key(name);
        nested(schema, false, &path, errors);
        if name == "metadata" {
            let detail = "must not be specified in a nested context";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    for (keyword, detail) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        if given(s, keyword) {
            errors.push(FieldError::forbidden(&path.child(keyword), detail));
        }
    }
}

/// Whether everything below the junctors of `v` also has a structure in `s`.
fn completeness(
    v: &Schema,
    s: Option<&Schema>,
    s_path: &Path,
    v_path: &Path,
    errors: &mut Vec<FieldError>,
) {
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (i, schema) in list(v, junctor).iter().enumerate() {
            if let Some(schema) = schema.as_object() {
                complete(schema, s, s_path, &v_path.child(junctor).index(i), errors);
            }
        }
    }
    if let Some(not) = object(v, "not") {
        complete(not, s, s_path, &v_path.child("not"), errors);
    }
}

fn complete(
    v: &Schema,
    s: Option<&Schema>,
    s_path: &Path,
    v_path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let Some(s) = s else {
        let detail = format!("because it is defined in {v_path}");
        errors.push(FieldError::required(s_path, &detail));
        return;
    };
    completeness(v, Some(s), s_path, v_path, errors);
    if let Some(items) = object(v, "items") {
        let (s_path, v_path) = (s_path.child("items"), v_path.child("items"));
        complete(items, object(s, "items"), &s_path, &v_path, errors);
    }
    for (name, schema) in properties(v) {
        let s_path = s_path.child("properties").key(name);
        let v_path = v_path.child("properties").key(name);
        let structure = object(s, "properties").and_then(|all| all.get(name)?.as_object());
        complete(schema, structure, &s_path, &v_path, errors);
    }
}

/// Whether a keyword says anything: Go's zero values are the same as their absence.
pub(super) fn given(s: &Schema, keyword: &str) -> bool {
    match s.get(keyword) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value || keyword == "additionalProperties",
        Some(Value::String(text)) => !text.is_empty() || keyword == "default",
        Some(Value::Array(list)) => !list.is_empty() || keyword == "default",
        Some(Value::Object(map)) => !map.is_empty() || !matches!(keyword, "definitions"),
        Some(Value::Number(_)) => true,
    }
}

pub(super) fn text<'a>(s: &'a Schema, keyword: &str) -> &'a str {
    s.get(keyword).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn yes(s: &Schema, keyword: &str) -> bool {
    s.get(keyword) == Some(&Value::Bool(true))
}

pub(super) fn list<'a>(s: &'a Schema, keyword: &str) -> &'a [Value] {
    s.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn object<'a>(s: &'a Schema, keyword: &str) -> Option<&'a Schema> {
    s.get(keyword)?.as_object()
}

pub(super) fn properties(s: &Schema) -> impl Iterator<Item = (&str, &Schema)> {
    let all = object(s, "properties").into_iter().flatten();
    all.filter_map(|(name, schema)| Some((name.as_str(), schema.as_object()?)))
}
