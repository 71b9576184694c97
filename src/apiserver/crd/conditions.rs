//! Conditions in the status of a CustomResourceDefinition.

use apimachinery::time;
use serde_json::{Value, json};

/// Sets the condition `kind`. Its time moves only when its status does.
pub fn set(object: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let found = list.iter_mut().find(|condition| condition["type"] == kind);
    match found {
        Some(condition) => {
            if condition["status"] != status {
                condition["lastTransitionTime"] = time::now().into();
            }
            condition["status"] = status.into();
            condition["reason"] = reason.into();
            condition["message"] = message.into();
        }
        None => list.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": time::now(),
        })),
    }
}

/// Whether the condition `kind` is true.
pub fn is_true(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}
