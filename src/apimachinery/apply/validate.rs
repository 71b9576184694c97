//! Checking an applied configuration against the types, with the words of structured-merge-diff:
//! clients see them when they apply a misspelt field.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::element::PathElement;
use super::types::{Fields, List, Scalar, Shape, Type};
use crate::quote::{go_quote, go_value};
use crate::schema::ListType;

/// What is wrong with a configuration: the errors, each behind its path.
pub(super) fn validate(config: &Value, ty: Type<'_>) -> Result<(), String> {
    let mut errors = Vec::new();
    visit(config, ty, &Trail::Root, &mut errors);
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

/// The way to a value, which becomes text only where there is something to report.
enum Trail<'a> {
    Root,
    Field(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
    Element(&'a Trail<'a>, &'a PathElement),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trail::Root => Ok(()),
            Trail::Field(above, name) => write!(f, "{above}.{name}"),
            Trail::Index(above, at) => write!(f, "{above}[{at}]"),
            Trail::Element(above, element) => write!(f, "{above}{element}"),
        }
    }
}

fn visit(value: &Value, ty: Type<'_>, trail: &Trail<'_>, errors: &mut Vec<String>) {
    match ty.shape(Some(value)) {
        Shape::Scalar(scalar) => {
            if let Some(why) = scalar_error(scalar, value) {
                report(trail, &why, errors);
            }
        }
        Shape::List(list) => match value {
            Value::Null => {}
            Value::Array(values) => items(values, &list, trail, errors),
            _ => report(trail, &format!("expected list, got &{{{}}}", go_value(value)), errors),
        },
        Shape::Map(fields) => match value {
            Value::Null => {}
            Value::Object(object) => named(object, &fields, trail, errors),
            _ => report(trail, &format!("expected map, got &{{{}}}", go_value(value)), errors),
        },
    }
}

fn items(values: &[Value], list: &List<'_>, trail: &Trail<'_>, errors: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        if list.relation == ListType::Atomic {
            visit(value, list.items, &Trail::Index(trail, i), errors);
            continue;
        }
        let element = match list.element(value) {
            Err(why) => return report(trail, &format!("element {i}: {why}"), errors),
            Ok(element) => element,
        };
        if seen.contains(&element) {
            report(trail, &format!("duplicate entries for key {element}"), errors);
        }
        visit(value, list.items, &Trail::Element(trail, &element), errors);
        seen.insert(element);
    }
}

fn named(
    object: &serde_json::Map<String, Value>,
    fields: &Fields<'_>,
    trail: &Trail<'_>,
    errors: &mut Vec<String>,
) {
    for (name, value) in object {
        let trail = Trail::Field(trail, name);
        match fields.field(name) {
            Some(ty) => visit(value, ty, &trail, errors),
            None => return report(&trail, "field not declared in schema", errors),
        }
    }
}

fn report(trail: &Trail<'_>, why: &str, errors: &mut Vec<String>) {
    errors.push(match trail {
        Trail::Root => why.to_owned(),
        trail => format!("{trail}: {why}"),
    });
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
