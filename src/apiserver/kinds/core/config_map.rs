//! ConfigMaps.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _},
    value::Fields as _,
};

pub(crate) struct ConfigMap;

/// The largest sum of all values, bytes; of secrets too.
pub(crate) const LARGEST: usize = 1 << 20;

/// What is said of a change to something marked as immutable.
pub(crate) const SEALED: &str = "field is immutable when `immutable` is set";

impl Hooks for ConfigMap {
    fn validate_create(&self, _context: &Context<'_>, map: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (data, binary) = (Path::root("data"), Path::root("binaryData"));
        let mut size = 0;
        for (key, value) in map.strings("data") {
            errors.messages(&data.key(key), key, names::config_map_key(key));
            if map["binaryData"].get(key).is_some() {
                errors.invalid(&data.key(key), key, "duplicate of key present in binaryData");
            }
            size += value.len();
        }
        for (key, value) in map.strings("binaryData") {
            errors.messages(&binary.key(key), key, names::config_map_key(key));
            size += decoded_len(value);
        }
        if size > LARGEST {
            // The whole object is meant.
            errors.push(FieldError::too_long(&Path::root("[]"), LARGEST));
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = sealed(old, new, &["data", "binaryData"]);
        errors.extend(self.validate_create(context, new));
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/configmaps")
    }

    fn cells(&self, map: &Value) -> Vec<Value> {
        let count = map.entries("data").count() + map.entries("binaryData").count();
        vec![name(map), count.into(), age(map)]
    }
}

/// What of `fields` changed though the object was marked as immutable.
pub(crate) fn sealed(old: &Value, new: &Value, fields: &[&str]) -> Errors {
    let mut errors = Errors::new();
    if !old.on("immutable") {
        return errors;
    }
    if !new.on("immutable") {
        errors.forbidden(&Path::root("immutable"), SEALED);
    }
    for field in fields {
        if old.get(field) != new.get(field) {
            errors.forbidden(&Path::root(field), SEALED);
        }
    }
    errors
}

/// The length of what a base64 text stands for.
pub(crate) fn decoded_len(text: &str) -> usize {
    (text.len() / 4 * 3).saturating_sub(text.bytes().rev().take_while(|byte| *byte == b'=').count())
}

#[cfg(test)]
mod tests {
    use super::decoded_len;

    #[test]
    fn lengths_are_those_of_the_bytes() {
        for (text, length) in [("", 0), ("YQ==", 1), ("YWI=", 2), ("YWJj", 3), ("YWJjZA==", 4)] {
            assert_eq!(decoded_len(text), length, "{text}");
        }
    }
}
