//! Values as upstream's messages show them: as the Go structs that its validation works on, whose
//! fields have no JSON names, stand in the order of their definition, and are shown when unset.

use std::{collections::HashMap, io::Read as _, sync::LazyLock};

use flate2::read::DeflateDecoder;
use serde_json::Value;

use crate::{GroupVersionKind, field::FieldError};

static TABLE: &[u8] = include_bytes!("../../../embedded/schema/internal.deflate");

/// The types by name, and the names of the types of kinds. Read when a message first needs it.
struct Types {
    kinds: HashMap<Box<str>, Box<str>>,
    structs: HashMap<Box<str>, Vec<Field>>,
}

struct Field {
    shown: Box<str>,
    /// Dotted path in the object; `.` for the object itself, `-` for what no version has.
    json: Box<str>,
    /// As Go writes it; named strings and numbers are plain ones.
    go_type: Box<str>,
    omit_empty: bool,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let mut text = String::new();
    DeflateDecoder::new(TABLE).read_to_string(&mut text).expect("a test reads the table");
    Types::read(&text)
});

impl Types {
    fn read(text: &str) -> Self {
        let mut types = Self { kinds: HashMap::new(), structs: HashMap::new() };
        let mut current: Option<&str> = None;
        for line in text.lines() {
            match *line.split_ascii_whitespace().collect::<Vec<_>>() {
                ["kind", kind, go_type] => {
                    types.kinds.insert(kind.into(), go_type.into());
                }
                ["type", name] => {
                    current = Some(name);
                    types.structs.insert(name.into(), Vec::new());
                }
                [shown, json, go_type, ref facts @ ..] if !line.starts_with('#') => {
                    if let Some(fields) = current.and_then(|name| types.structs.get_mut(name)) {
                        fields.push(Field {
                            shown: shown.into(),
                            json: json.into(),
                            go_type: go_type.into(),
                            omit_empty: facts.contains(&"e"),
                        });
                    }
                }
                _ => {}
            }
        }
        types
    }

    /// The type at a path such as `spec.containers[0].ports` below a type.
    fn at<'a>(&'a self, root: &'a str, path: &str) -> Option<&'a str> {
        let mut go_type = root;
        // Fields of embedded structs are objects of their own in JSON.
        let mut within = String::new();
        let mut rest = path;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                rest = inner.split_once(']')?.1;
                go_type = go_type.trim_start_matches('*');
                go_type = go_type.strip_prefix("[]").or_else(|| go_type.strip_prefix("map:"))?;
                continue;
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            within.push_str(&rest[..end]);
            rest = &rest[end..];
            let fields = self.structs.get(go_type.trim_start_matches('*'))?;
            if let Some(found) = self.field(fields, &within) {
                go_type = found;
                within.clear();
            } else if fields.iter().any(|field| field.json.starts_with(&format!("{within}."))) {
                within.push('.');
            } else {
                return None;
            }
        }
        within.is_empty().then_some(go_type)
    }

    fn field<'a>(&'a self, fields: &'a [Field], json: &str) -> Option<&'a str> {
        fields.iter().find_map(|field| match &*field.json {
            "." => self.field(self.structs.get(&*field.go_type)?, json),
            own if own == json => Some(&*field.go_type),
            _ => None,
        })
    }

    fn shown(&self, go_type: &str, value: Option<&Value>) -> Shown {
        let value = value.filter(|value| !value.is_null());
        if let Some(inner) = go_type.strip_prefix('*') {
            return value.map_or(Shown::null(), |value| self.shown(inner, Some(value)));
        }
        if let Some(inner) = go_type.strip_prefix("[]").filter(|inner| *inner != "byte") {
            return match value {
                Some(Value::Array(items)) => {
                    Shown::List(items.iter().map(|item| self.shown(inner, Some(item))).collect())
                }
                other => Shown::of(other.unwrap_or(&Value::Null)),
            };
        }
        if let Some(inner) = go_type.strip_prefix("map:") {
            return match value {
                Some(Value::Object(map)) => Shown::Fields(
                    map.iter().map(|(key, v)| (key.clone(), self.shown(inner, Some(v)))).collect(),
                ),
                other => Shown::of(other.unwrap_or(&Value::Null)),
            };
        }
        if let Some(fields) = self.structs.get(go_type) {
            return Shown::Fields(fields.iter().filter_map(|f| self.member(f, value)).collect());
        }
        match (value, go_type) {
            // No bytes are not told from none.
            (Some(Value::String(text)), "[]byte") if text.is_empty() => Shown::null(),
            (Some(value), _) => Shown::of(value),
            (None, "string") => Shown::Leaf("\"\"".to_owned()),
            (None, "int" | "intstr.IntOrString" | "float") => Shown::Leaf("0".to_owned()),
            (None, "bool") => Shown::Leaf("false".to_owned()),
            (None, "resource.Quantity") => Shown::Leaf("\"0\"".to_owned()),
            (None, "meta/v1.Duration") => Shown::Leaf("\"0s\"".to_owned()),
            (None, _) => Shown::null(),
        }
    }

    fn versioned(&self, go_type: &str, value: &Value) -> Shown {
        let go_type = go_type.trim_start_matches('*');
        let inner = go_type.strip_prefix("[]").or_else(|| go_type.strip_prefix("map:"));
        match (value, inner, self.structs.get(go_type)) {
            (Value::Array(items), Some(inner), _) => {
                Shown::List(items.iter().map(|item| self.versioned(inner, item)).collect())
            }
            (Value::Object(map), Some(inner), _) => Shown::Fields(
                map.iter().map(|(key, v)| (key.clone(), self.versioned(inner, v))).collect(),
            ),
            (Value::Object(map), None, Some(fields)) => Shown::Fields(
                fields
                    .iter()
                    .filter_map(|field| Some((field, map.get(&*field.json)?)))
                    .map(|(f, value)| (f.json.to_string(), self.versioned(&f.go_type, value)))
                    .collect(),
            ),
            _ => Shown::of(value),
        }
    }

    fn member(&self, field: &Field, object: Option<&Value>) -> Option<(String, Shown)> {
        let value = match &*field.json {
            "." => object,
            "-" => None,
            path => path.split('.').try_fold(object?, |value, step| value.get(step)),
        };
        let empty = match value {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Number(number)) => number.as_i64() == Some(0),
            Some(Value::Bool(true)) => false,
        };
        let pointer = field.go_type.starts_with('*') && value.is_some_and(|v| !v.is_null());
        if field.omit_empty && empty && !pointer {
            return None;
        }
        Some((field.shown.to_string(), self.shown(&field.go_type, value)))
    }
}

/// A value in the form in which Go writes it.
enum Shown {
    Leaf(String),
    List(Vec<Shown>),
    Fields(Vec<(String, Shown)>),
}

impl Shown {
    fn null() -> Self {
        Self::Leaf("null".to_owned())
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(map) => {
                Self::Fields(map.iter().map(|(key, v)| (key.clone(), Self::of(v))).collect())
            }
            leaf => Self::Leaf(go_json(leaf)),
        }
    }

    /// As `json.Marshal` writes it, or, with an `indent`, as `json.MarshalIndent` does.
    fn write(&self, indent: Option<usize>, out: &mut String) {
        let inner = indent.map(|depth| depth + 1);
        let line = |depth: Option<usize>, out: &mut String| {
            if let Some(depth) = depth {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', depth));
            }
        };
        match self {
            Self::Leaf(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    line(inner, out);
                    item.write(inner, out);
                }
                line(indent.filter(|_| !items.is_empty()), out);
                out.push(']');
            }
            Self::Fields(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    line(inner, out);
                    out.push_str(&go_json(&Value::from(name.as_str())));
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write(inner, out);
                }
                line(indent.filter(|_| !fields.is_empty()), out);
                out.push('}');
            }
        }
    }
}

/// JSON as Go writes it: safe to stand in HTML.
pub fn go_json(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}', '\u{7f}']) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

/// A value of a Go type such as `core.Taint` or `[]core.Taint`, in one line.
pub fn show(go_type: &str, value: &Value) -> String {
    let mut out = String::new();
    TYPES.shown(go_type, Some(value)).write(None, &mut out);
    out
}

/// As [`show`], a field a line.
pub fn show_lines(go_type: &str, value: &Value) -> String {
    let mut out = String::new();
    TYPES.shown(go_type, Some(value)).write(Some(0), &mut out);
    out
}

/// An item of a list as rules that are declared show it: they look at the type of a version, whose
/// fields have JSON names and are shown when set. The fields of both types are in the same order.
pub fn show_versioned(go_type: &str, item: &Value) -> String {
    let mut out = String::new();
    TYPES.versioned(go_type, item).write(None, &mut out);
    out
}

/// Shows the lists and objects, and what is not there, in errors about an object of a built-in kind
/// as what their paths say they are.
pub fn show_errors(kind: &GroupVersionKind, errors: &mut [FieldError]) {
    for error in errors {
        let Some(value) = error.value.take() else { continue };
        let root = TYPES.kinds.get(&*format!("{}:{}", kind.api_version(), kind.kind));
        let Some(go_type) = root.and_then(|root| TYPES.at(root, error.path.as_str())) else {
            continue;
        };
        error.show_as(&value, &show(go_type, &value));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::Path;

    #[test]
    fn the_table_that_is_compiled_in_is_the_one_that_people_read() {
        let text = include_str!("../../../embedded/schema/internal.txt");
        let read = Types::read(text);
        assert_eq!(read.structs.len(), TYPES.structs.len());
        assert!(read.kinds.contains_key("v1:Pod") && TYPES.kinds.contains_key("v1:Pod"));
    }

    #[test]
    fn structs_are_shown_in_gos_order_with_what_is_missing() {
        let context = json!({"runAsUser": 5, "capabilities": {"add": ["A"]}, "privileged": true});
        assert_eq!(
            show("*core.SecurityContext", &context),
            "{\"Capabilities\":{\"Add\":[\"A\"],\"Drop\":null},\"Privileged\":true,\
             \"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":5,\"RunAsGroup\":null,\
             \"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\
             \"AllowPrivilegeEscalation\":null,\"ProcMount\":null,\"SeccompProfile\":null,\
             \"AppArmorProfile\":null}"
        );
        let selector = json!({"matchExpressions": [{"key": "<", "operator": "In"}],
            "matchLabels": {"a": "b"}});
        assert_eq!(
            show("meta/v1.LabelSelector", &selector),
            r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"\u003c","operator":"In"}]}"#
        );
        assert_eq!(
            show_lines("core.PodReadinessGate", &json!({})),
            "{\n \"ConditionType\": \"\"\n}"
        );
    }

    #[test]
    fn errors_are_shown_as_what_their_paths_say() {
        let kind = GroupVersionKind::new("apps", "v1", "StatefulSet");
        let error = |path: &str, value: Value| {
            let path = path.split('.').fold(Path::empty(), |path, step| path.child(step));
            let mut errors = [FieldError::invalid(&path, value, "no")];
            show_errors(&kind, &mut errors);
            errors[0].message.clone()
        };
        let template = json!([{"metadata": {"name": "a"}, "spec": {}, "kind": "K"}]);
        assert!(
            error("spec.volumeClaimTemplates", template)
                .starts_with("Invalid value: [{\"name\":\"a\",\"Spec\":{\"AccessModes\":null,")
        );
        let ports = json!([{"containerPort": 1}]);
        assert_eq!(
            error("spec.template.spec.containers[0].ports", ports),
            "Invalid value: [{\"Name\":\"\",\"HostPort\":0,\"ContainerPort\":1,\"Protocol\":\"\",\
             \"HostIP\":\"\"}]: no"
        );
        let labels = json!({"a": "b"});
        assert_eq!(error("metadata.labels", labels), "Invalid value: {\"a\":\"b\"}: no");
        assert_eq!(error("no.where", json!([1])), "Invalid value: [1]: no");
    }
}
