//! The difference between two statuses as a strategic merge patch, so that a write touches nothing
//! that others own.

use serde_json::{Map, Value, json};

/// Lists of the pod status that are merged by a key; the rest is replaced as a whole.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// The patch that makes `new` of `old`, both the JSON of a PodStatus; `None` when they are the same.
/// Fields that `new` does not have are removed only if they are among `removable`.
pub(crate) fn status_patch(old: &Value, new: &Value, removable: &[&str]) -> Option<Value> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut patch = Map::new();
    for (field, value) in new {
        let before = old.get(field).unwrap_or(&Value::Null);
        if same(before, value) {
            continue;
        }
        let change = match MERGED.iter().find(|(name, _)| name == field) {
            Some((name, key)) => merged(before, value, key, *name != "conditions"),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(field.clone(), change);
        }
    }
    for field in removable {
        if !new.contains_key(*field) && old.get(*field).is_some_and(|v| !v.is_null()) {
            patch.insert((*field).to_owned(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The entries of a merged list that are new or changed. `whole` lists lose their other entries.
fn merged(old: &Value, new: &Value, key: &str, whole: bool) -> Option<Value> {
    let none = Vec::new();
    let old = old.as_array().unwrap_or(&none);
    let new = new.as_array().unwrap_or(&none);
    let of = |list: &[Value], entry: &Value| -> Option<Value> {
        list.iter().find(|other| other.get(key) == entry.get(key)).cloned()
    };
    if whole {
        if old.is_empty() {
            return Some(Value::Array(new.clone()));
        }
        let mut list = vec![json!({"$patch": "replace"})];
        list.extend(new.iter().cloned());
        return Some(Value::Array(list));
    }
    let mut changes: Vec<Value> = new
        .iter()
        .filter_map(|entry| match of(old, entry) {
            Some(before) if same(&before, entry) => None,
            Some(before) => Some(with_removals(&before, entry)),
            None => Some(entry.clone()),
        })
        .collect();
    // Conditions of the kubelet's own that are over.
    for entry in old {
        let kind = entry.get(key).and_then(Value::as_str).unwrap_or_default();
        if super::conditions::owned(kind) && of(new, entry).is_none() {
            changes.push(json!({"$patch": "delete", key: kind}));
        }
    }
    (!changes.is_empty()).then_some(Value::Array(changes))
}

/// `entry`, with an explicit null for each field that it no longer has.
fn with_removals(before: &Value, entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let (Some(fields), Some(before)) = (entry.as_object_mut(), before.as_object()) {
        for (field, value) in before {
            if !value.is_null() && field != "lastProbeTime" && !fields.contains_key(field) {
                fields.insert(field.clone(), Value::Null);
            }
        }
    }
    entry
}

/// Whether two values are the same to the API: null, absent and empty containers are.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let covers = |a: &Map<String, Value>, b: &Map<String, Value>| {
                a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(&Value::Null)))
            };
            covers(a, b) && covers(b, a)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Null, other) | (other, Value::Null) => is_empty(other),
        _ => a == b,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let old = json!({
            "phase": "Pending",
            "reason": "Gone",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastProbeTime": null},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                {"type": "PodResizePending", "status": "True"},
                {"type": "example.com/gate", "status": "False"},
            ],
            "podIPs": [],
        });
        let new = json!({
            "phase": "Running",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True"},
            ],
            "podIPs": [{"ip": "10.0.0.2"}],
        });
        let want = json!({
            "phase": "Running",
            "reason": null,
            "conditions": [
                {"type": "Ready", "status": "True", "reason": null},
                {"$patch": "delete", "type": "PodResizePending"},
            ],
            "podIPs": [{"ip": "10.0.0.2"}],
        });
        assert_eq!(status_patch(&old, &new, &["reason", "message"]), Some(want));
        assert_eq!(status_patch(&new, &new, &["reason"]), None);
    }

    #[test]
    fn empty_and_absent_are_the_same() {
        let old = json!({"containerStatuses": [{"name": "a", "lastState": {}, "ready": false}]});
        let new = json!({"containerStatuses": [{"name": "a"}], "message": null});
        assert_eq!(status_patch(&old, &new, &[]), None);
    }
}
