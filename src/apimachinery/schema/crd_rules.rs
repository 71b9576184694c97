//! What a CustomResourceDefinition's schema may say, keyword by keyword: the rules of upstream's
//! `ValidateCustomResourceDefinitionOpenAPISchema`, beside those that make it structural. CEL rules
//! are compiled, and their cost is judged, elsewhere.

use serde_json::{Map, Value};

use super::{
    crd,
    graph::{Graph, Kind as ValueKind, NONE, NodeId},
    prune, structural,
    structural::{given, list, object, properties, text, yes},
    validate,
};
use crate::field::{FieldError, Path};

type Schema = Map<String, Value>;

/// Everything that is wrong with the `openAPIV3Schema` at a path of a CustomResourceDefinition,
/// except for its CEL rules.
pub fn errors(schema: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = structural::errors(schema, path);
    let Some(root) = schema.as_object() else { return errors };
    if errors.is_empty() {
        let (graph, id) = crd::graph(schema);
        defaults(&graph, id, root, path, &mut errors);
    }
    let mut rules = Rules { errors };
    rules.schema(root, path, Place { root: true, ..Place::default() });
    rules.errors
}

/// Where a schema stands.
#[derive(Clone, Copy, Default)]
struct Place {
    root: bool,
    /// Inside what every Kubernetes object has.
    metadata: bool,
    /// Why there may be no defaults, where there may be none.
    no_defaults: Option<&'static str>,
}

struct Rules {
    errors: Vec<FieldError>,
}

impl Rules {
    fn forbid(&mut self, path: &Path, detail: &str) {
        self.errors.push(FieldError::forbidden(path, detail));
    }

    fn require(&mut self, path: &Path, detail: &str) {
        self.errors.push(FieldError::required(path, detail));
    }

    fn refuse(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        self.errors.push(FieldError::invalid(path, value, detail));
    }

    fn schema(&mut self, s: &Schema, path: &Path, place: Place) {
        self.keywords(s, path, place);
        if s.get("additionalProperties").is_some_and(|values| !values.is_null()) {
            let path = path.child("additionalProperties");
            let closed = s["additionalProperties"] != true;
            if closed && properties(s).next().is_some() {
                self.forbid(&path, "additionalProperties and properties are mutual exclusive");
            }
            if let Some(values) = object(s, "additionalProperties") {
                let mut place = Place { root: false, ..place };
                if place.metadata {
                    place.no_defaults =
                        Some(" inside additionalProperties applying to object metadata");
                }
                self.schema(values, &path, place);
            }
        }
        let whole = place.root || yes(s, "x-kubernetes-embedded-resource");
        for (name, below) in properties(s) {
            let mut inside = Place { root: false, ..place };
            if whole && crd::OBJECT_META.contains(&name) {
                inside.metadata = true;
                if place.root {
                    inside.no_defaults = Some(match name {
                        "metadata" => " in top-level metadata",
                        "kind" => " in top-level kind",
                        _ => " in top-level apiVersion",
                    });
                }
            }
            self.schema(below, &path.child("properties").key(name), inside);
        }
        let inside = Place { root: false, ..place };
        if let Some(not) = object(s, "not") {
            self.schema(not, &path.child("not"), inside);
        }
        for junctor in ["allOf", "oneOf", "anyOf"] {
            for (i, below) in list(s, junctor).iter().enumerate() {
                if let Some(below) = below.as_object() {
                    self.schema(below, &path.child(junctor).index(i), inside);
                }
            }
        }
        if let Some(items) = object(s, "items") {
            self.schema(items, &path.child("items"), inside);
        }
        if s.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let path = path.child("x-kubernetes-preserve-unknown-fields");
            self.refuse(&path, false, "must be true or undefined");
        }
        self.map_type(s, path);
        self.list_type(s, path);
        self.cel_rules(s, path);
    }

    fn keywords(&mut self, s: &Schema, path: &Path, place: Place) {
        const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
        let kind = text(s, "type");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            self.errors.push(FieldError::not_supported(&path.child("type"), kind, &TYPES));
        }
        if let Some(why) = place.no_defaults
            && given(s, "default")
        {
            self.forbid(&path.child("default"), &format!("must not be set{why}"));
        }
        if kind == "null" {
            let detail = "type cannot be set to null, use nullable as an alternative";
            self.forbid(&path.child("type"), detail);
        }
        let embedded = "x-kubernetes-embedded-resource";
        if place.metadata && yes(s, embedded) {
            self.forbid(&path.child(embedded), "must not be used inside of resource meta");
        }
        if yes(s, "uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes \
                          quadratic";
            self.forbid(&path.child("uniqueItems"), detail);
        }
    }

    fn map_type(&mut self, s: &Schema, path: &Path) {
        let map_type = text(s, "x-kubernetes-map-type");
        if !s.contains_key("x-kubernetes-map-type") {
            return;
        }
        self.typed(s, "object", "must be object if x-kubernetes-map-type is specified", path);
        if !matches!(map_type, "atomic" | "granular") {
            let path = path.child("x-kubernetes-map-type");
            let error = FieldError::not_supported(&path, map_type, &["atomic", "granular"]);
            self.errors.push(error);
        }
    }

    /// Whether a schema has the type that one of its keywords needs.
    fn typed(&mut self, s: &Schema, wanted: &str, detail: &str, path: &Path) -> bool {
        let kind = text(s, "type");
        let path = path.child("type");
        match kind {
            "" => self.require(&path, detail),
            kind if kind != wanted => self.refuse(&path, kind, detail),
            _ => return true,
        }
        false
    }

    fn list_type(&mut self, s: &Schema, path: &Path) {
        let list_type = text(s, "x-kubernetes-list-type");
        let items = object(s, "items");
        if s.contains_key("x-kubernetes-list-type") {
            let detail = "must be array if x-kubernetes-list-type is specified";
            if self.typed(s, "array", detail, path)
                && list_type == "set"
                && let Some(items) = items
            {
                self.set_items(items, &path.child("items"));
            }
            if !matches!(list_type, "atomic" | "set" | "map") {
                let path = path.child("x-kubernetes-list-type");
                let known = ["atomic", "set", "map"];
                self.errors.push(FieldError::not_supported(&path, list_type, &known));
            }
        }
        let keys = list(s, "x-kubernetes-list-map-keys");
        if !keys.is_empty() && list_type != "map" {
            let path = path.child("x-kubernetes-list-type");
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            match s.contains_key("x-kubernetes-list-type") {
                false => self.require(&path, detail),
                true => self.refuse(&path, list_type, detail),
            }
        }
        if list_type == "map" {
            self.list_map(s, keys, items, path);
        }
        if matches!(list_type, "map" | "set")
            && let Some(items) = items
        {
            self.keyed_items(list_type, items, keys, &path.child("items"));
        }
    }

    /// The items of a set are scalars, or replaced as a whole.
    fn set_items(&mut self, items: &Schema, path: &Path) {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let (keyword, wrong) = match text(items, "type") {
            "array" => {
                let list_type = text(items, "x-kubernetes-list-type");
                ("x-kubernetes-list-type", !matches!(list_type, "" | "atomic"))
            }
            "object" => {
                let map_type = text(items, "x-kubernetes-map-type");
                ("x-kubernetes-map-type", map_type != "atomic")
            }
            _ => return,
        };
        if wrong {
            // Upstream shows the list type of the items in both cases.
            let value = items.get("x-kubernetes-list-type").cloned().unwrap_or(Value::Null);
            self.refuse(&path.child(keyword), value, detail);
        }
    }

    fn list_map(&mut self, s: &Schema, keys: &[Value], items: Option<&Schema>, path: &Path) {
        let keys_path = path.child("x-kubernetes-list-map-keys");
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.require(&keys_path, detail);
        }
        let Some(items) = items else {
            if !given(s, "items") {
                let detail = "must have a schema if x-kubernetes-list-type is map";
                self.require(&path.child("items"), detail);
            }
            return;
        };
        let items_path = path.child("items");
        if text(items, "type") != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.refuse(&items_path.child("type"), text(items, "type"), detail);
            return;
        }
        for (i, key) in keys.iter().enumerate() {
            let name = key.as_str().unwrap_or_default();
            match object(items, "properties").and_then(|all| all.get(name)?.as_object()) {
                Some(field) if matches!(text(field, "type"), "array" | "object") => {
                    let path = items_path.child("properties").key(name).child("type");
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type \
                                  is map";
                    self.refuse(&path, text(items, "type"), detail);
                }
                Some(_) => {}
                None => {
                    let detail = "entries must all be names of item properties";
                    self.refuse(&keys_path, keys.to_vec(), detail);
                }
            }
            if keys[..i].contains(key) {
                self.refuse(&keys_path, keys.to_vec(), "must not contain duplicate entries");
            }
        }
    }

    /// The items of sets and list maps are there, and so are the keys of the latter.
    fn keyed_items(&mut self, list_type: &str, items: &Schema, keys: &[Value], path: &Path) {
        if yes(items, "nullable") {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            self.forbid(&path.child("nullable"), &detail);
        }
        if list_type != "map" {
            return;
        }
        for name in keys.iter().filter_map(Value::as_str) {
            let field = object(items, "properties").and_then(|all| all.get(name)?.as_object());
            let Some(field) = field else { continue };
            let path = path.child("properties").key(name);
            let required = list(items, "required").iter().any(|known| known == name);
            if !required && !given(field, "default") {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a \
                              default or be a required property";
                self.require(&path.child("default"), detail);
            }
            if yes(field, "nullable") {
                let detail =
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbid(&path.child("nullable"), detail);
            }
        }
    }

    /// What is said about CEL rules, but not the rules themselves.
    fn cel_rules(&mut self, s: &Schema, path: &Path) {
        const REASONS: [&str; 4] = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        for (i, rule) in list(s, "x-kubernetes-validations").iter().enumerate() {
            let nothing = Map::new();
            let rule = rule.as_object().unwrap_or(&nothing);
            let path = path.child("x-kubernetes-validations").index(i);
            let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
            let breaks = |text: &str| text.contains(['\n', '\r']);
            if expression.is_empty() {
                self.require(&path.child("rule"), "rule is not specified");
            } else if !message.is_empty() && message.trim().is_empty() {
                self.refuse(&path.child("message"), message, "must be non-empty if specified");
            } else if breaks(message.trim()) {
                self.refuse(&path.child("message"), message, "must not contain line breaks");
            } else if breaks(expression) && message.trim().is_empty() {
                let detail = "message must be specified if rule contains line breaks";
                self.require(&path.child("message"), detail);
            }
            let computed = text(rule, "messageExpression");
            if !computed.is_empty() && computed.trim().is_empty() {
                let detail = "messageExpression must be non-empty if specified";
                self.require(&path.child("messageExpression"), detail);
            }
            if let Some(reason) = rule.get("reason").and_then(Value::as_str)
                && !REASONS.contains(&reason)
            {
                let path = path.child("reason");
                self.errors.push(FieldError::not_supported(&path, reason, &REASONS));
            }
            let field = text(rule, "fieldPath");
            if !field.is_empty() && field.trim().is_empty() {
                self.refuse(&path.child("fieldPath"), field, "must be non-empty if specified");
            }
            if breaks(field) {
                self.refuse(&path.child("fieldPath"), field, "must not contain line breaks");
            }
        }
    }
}

/// Whether defaults are values that their own schema allows and keeps.
fn defaults(graph: &Graph, id: NodeId, s: &Schema, path: &Path, errors: &mut Vec<FieldError>) {
    if id == NONE || id & super::graph::BUILTIN != 0 {
        return;
    }
    let node = graph.node(id);
    if let Some(default) = graph.facets(node).and_then(|facets| facets.default.as_ref()) {
        let path = path.child("default");
        let mut kept = default.clone();
        prune::below(graph, id, &mut kept);
        if kept != *default {
            errors.push(FieldError::invalid(
                &path,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        errors.extend(validate::below(graph, id, default, &path));
    }
    if node.kind == ValueKind::Array
        && let Some(items) = object(s, "items")
    {
        defaults(graph, node.child, items, &path.child("items"), errors);
    }
    for (name, below) in properties(s) {
        if let Some(field) = graph.field(node, name) {
            let path = path.child("properties").key(name);
            defaults(graph, field.node, below, &path, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors_of(spec: Value) -> Vec<String> {
        let schema = json!({"type": "object", "properties": {"spec": spec}});
        errors(&schema, &Path::root("s")).iter().map(ToString::to_string).collect()
    }

    /// The expectations are those of Kubernetes v1.37's API server.
    #[test]
    fn words_errors_like_upstream() {
        let list_map = |items: Value, keys: Value| {
            json!({
                "type": "array", "items": items, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": keys,
            })
        };
        for (spec, expected) in [
            (
                json!({"type": "integer", "default": "a"}),
                r#"s.properties[spec].default: Invalid value: "string":  in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "object", "default": {"a": 1}, "properties": {"b": {"type": "string"}}}),
                r#"s.properties[spec].default: Invalid value: {"a":1}: must not have unknown fields"#,
            ),
            (
                json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}}),
                "s.properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ),
            (
                json!({"type": "string", "x-kubernetes-list-type": "set"}),
                r#"s.properties[spec].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
            ),
            (
                list_map(json!({"type": "object", "properties": {}}), json!(["a"])),
                r#"s.properties[spec].x-kubernetes-list-map-keys: Invalid value: ["a"]: entries must all be names of item properties"#,
            ),
            (
                list_map(
                    json!({"type": "object", "properties": {"a": {"type": "string"}}}),
                    json!(["a"]),
                ),
                "s.properties[spec].items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}},
                    "additionalProperties": {"type": "string"}}),
                "s.properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ),
            (
                json!({"type": "string", "x-kubernetes-validations": [{"message": "a"}]}),
                "s.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified",
            ),
        ] {
            assert_eq!(errors_of(spec), [expected]);
        }
        assert_eq!(errors_of(json!({"type": "string", "default": "a"})), [""; 0]);
    }

    #[test]
    fn forbids_defaults_of_what_every_object_has() {
        let schema = json!({"type": "object", "properties": {
            "kind": {"type": "string", "default": "A"},
        }});
        let errors: Vec<_> =
            errors(&schema, &Path::root("s")).iter().map(ToString::to_string).collect();
        let expected = "s.properties[kind].default: Forbidden: must not be set in top-level kind";
        assert_eq!(errors, [expected]);
    }
}
