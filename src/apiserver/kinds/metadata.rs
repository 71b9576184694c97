//! Metadata that some kinds take part in.

use serde_json::{Value, json};

use super::value::{Fields as _, object_at};

/// Labels an object with its own name, so that selectors can name it.
pub(crate) fn label_with_name(object: &mut Value) {
    let name = object["metadata"].text("name").to_owned();
    if name.is_empty() {
        return;
    }
    if let Some(metadata) = object_at(object, "metadata") {
        let labels = metadata.entry("labels").or_insert(Value::Null);
        if !labels.is_object() {
            *labels = json!({});
        }
        labels["kubernetes.io/metadata.name"] = name.into();
    }
}
