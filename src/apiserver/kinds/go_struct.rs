//! Objects in error messages: upstream prints its internal structs, whose fields have no JSON names,
//! in the order of their definition and with those that are not set.

use std::fmt::Write as _;

use apimachinery::{
    field::{FieldError, Path},
    schema::{self, Schema},
};
use serde_json::Value;

use super::{
    validation::{Errors, IMMUTABLE},
    value::{Fields as _, same},
};

/// The value of a field of a kind as upstream prints it, by the kind's schema: `spec.a` for a field,
/// `spec.a[]` for an item of a list.
pub(crate) fn shown(version: &str, kind: &str, field: &str, value: &Value) -> String {
    let (parent, last) = field.rsplit_once('.').unwrap_or(("", field));
    let text = match last.ends_with("[]") {
        true => at(version, kind, field).map(|schema| schema.show_go(value)),
        false => at(version, kind, parent).map(|schema| schema.show_go_field(last, value)),
    };
    text.unwrap_or_else(|| value.to_string())
}

fn at(version: &str, kind: &str, field: &str) -> Option<Schema> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let whole = schema::builtin(group, version, kind)?;
    field.split('.').filter(|step| !step.is_empty()).try_fold(whole, |schema, step| {
        match step.strip_suffix("[]") {
            Some(list) => schema.field(list)?.items(),
            None => schema.field(step),
        }
    })
}

/// A field, given as for [`shown`], that must not change.
pub(crate) fn immutable(
    version: &str,
    kind: &str,
    field: &str,
    old: &Value,
    new: &Value,
    errors: &mut Errors,
) {
    let find = |of| field.split('.').fold(of, |at: &Value, step| &at[step]);
    let (was, is) = (find(old), find(new));
    if !same(was, is) {
        let path = field.split('.').fold(Path::empty(), |path, step| path.child(step));
        let shown = shown(version, kind, field, is);
        errors.push(FieldError::invalid_shown(&path, &shown, IMMUTABLE));
    }
}

/// What a field that is not set is printed as.
pub(crate) enum Kind {
    /// A pointer, list or map: `null`.
    Pointer,
    /// A string: `""`.
    Text,
}

/// Go name, JSON name and kind of each field.
pub(crate) struct GoStruct(pub(crate) &'static [(&'static str, &'static str, Kind)]);

use Kind::{Pointer, Text};

impl GoStruct {
    /// The object as upstream prints it.
    pub(crate) fn show(&self, object: &Value) -> String {
        let mut text = String::from("{");
        for (at, (name, field, kind)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let value = match (object.sub(field), kind) {
                (Some(value), _) => value.to_string(),
                (None, Text) => "\"\"".to_owned(),
                (None, Pointer) => "null".to_owned(),
            };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}\"{name}\":{value}");
        }
        text.push('}');
        text
    }
}
