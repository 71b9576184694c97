//! Checking an applied configuration against the types, with the words of structured-merge-diff:
//! clients see them when they apply a misspelt field.

use std::collections::BTreeSet;

use serde_json::Value;

use super::types::{Fields, List, Scalar, Shape, Type};
use crate::quote::{go_quote, go_value};
use crate::schema::ListType;

/// What is wrong with a configuration: the errors, each behind its path.
pub(super) fn validate(config: &Value, ty: Type<'_>) -> Result<(), String> {
    let mut errors = Vec::new();
    visit(config, ty, &mut String::new(), &mut errors);
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

fn visit(value: &Value, ty: Type<'_>, path: &mut String, errors: &mut Vec<String>) {
    match ty.shape(Some(value)) {
        Shape::Scalar(scalar) => {
            if let Some(why) = scalar_error(scalar, value) {
                report(path, &why, errors);
            }
        }
        Shape::List(list) => match value {
            Value::Null => {}
            Value::Array(values) => items(values, &list, path, errors),
            _ => report(path, &format!("expected list, got &{{{}}}", go_value(value)), errors),
        },
        Shape::Map(fields) => match value {
            Value::Null => {}
            Value::Object(object) => named(object, &fields, path, errors),
            _ => report(path, &format!("expected map, got &{{{}}}", go_value(value)), errors),
        },
    }
}

fn items(values: &[Value], list: &List<'_>, path: &mut String, errors: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        let step = if list.relation == ListType::Atomic {
            format!("[{i}]")
        } else {
            match list.element(value) {
                Err(why) => return report(path, &format!("element {i}: {why}"), errors),
                Ok(element) => {
                    let step = element.to_string();
                    if !seen.insert(element) {
                        report(path, &format!("duplicate entries for key {step}"), errors);
                    }
                    step
                }
            }
        };
        descend(value, list.items, &step, path, errors);
    }
}

fn named(
    object: &serde_json::Map<String, Value>,
    fields: &Fields<'_>,
    path: &mut String,
    errors: &mut Vec<String>,
) {
    for (name, value) in object {
        let step = format!(".{name}");
        match fields.field(name) {
            Some(ty) => descend(value, ty, &step, path, errors),
            None => {
                let place = format!("{path}{step}");
                return report(&place, "field not declared in schema", errors);
            }
        }
    }
}

fn descend(value: &Value, ty: Type<'_>, step: &str, path: &mut String, errors: &mut Vec<String>) {
    let length = path.len();
    path.push_str(step);
    visit(value, ty, path, errors);
    path.truncate(length);
}

fn report(path: &str, why: &str, errors: &mut Vec<String>) {
    errors.push(if path.is_empty() { why.to_owned() } else { format!("{path}: {why}") });
}

fn scalar_error(scalar: Scalar, value: &Value) -> Option<String> {
    let scalars = value.is_number() || value.is_string() || value.is_boolean();
    match scalar {
        _ if value.is_null() => None,
        Scalar::Numeric if !value.is_number() => {
            let ty = crate::quote::go_type(value);
            Some(format!("expected numeric (int or float), got {ty}"))
        }
        Scalar::Text if !value.is_string() => {
            let shown = go_syntax(value);
            Some(format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"))
        }
        Scalar::Boolean if !value.is_boolean() => {
            Some(format!("expected boolean, got &{{{}}}", go_value(value)))
        }
        Scalar::Any if !scalars => {
            Some(format!("expected any scalar, got &{{{}}}", go_value(value)))
        }
        _ => None,
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => go_quote(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(k, v)| format!("{}:{}", go_quote(k), go_syntax(v))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        scalar => scalar.to_string(),
    }
}
