//! The bridge from client-side apply, which keeps the configuration in an annotation.

use serde_json::{Map, Value};

use super::FieldManager;
use super::compare::compare;
use super::extract::field_set;
use super::set::Set;
use super::types::Type;
use super::validate::validate;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Most bytes of keys and values that the annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 << 10;

fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

/// The fields that client-side apply set and that still have its values; none where the object
/// was not applied that way.
pub(super) fn unchanged(request: &FieldManager<'_>, live: &Value) -> Option<Set> {
    let text = annotations(live)?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())?;
    let applied: Value = serde_json::from_str(text).ok()?;
    if applied.get("apiVersion")?.as_str()? != request.group_version {
        return None;
    }
    let ty = Type::of(request.schema);
    validate(&applied, ty).ok()?;
    let mut fields = field_set(&applied, ty);
    let difference = compare(&applied, live, ty).ok()?;
    fields.subtract(&difference.modified);
    fields.subtract(&difference.added);
    fields.subtract(&difference.removed);
    Some(fields)
}

/// Renews the annotation of an object that has it, for clients that still apply on their side.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    if annotations(object).and_then(|a| a.get(ANNOTATION)?.as_str()).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations") {
        annotations.as_object_mut().map(|annotations| annotations.remove(ANNOTATION));
    }
    let text = escape_html(&config.to_string()) + "\n";
    let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), text.into());
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

/// JSON as Go's encoder writes it: what could be read as HTML is escaped.
fn escape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}
