//! JSON merge patch (RFC 7386, `application/merge-patch+json`) as upstream's library does it: what
//! a patch adds has its nulls removed also inside of lists, which the RFC leaves alone.

use serde_json::{Map, Value};

use super::{PatchError, wrong_type};

/// Applies `patch` to an object. The result is an object again unless the patch is a list, which
/// replaces it.
pub fn apply(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    match (object, patch) {
        (_, Value::Null) => Err(PatchError::BadRequest("Invalid JSON Patch".to_owned())),
        (Value::Object(object), Value::Object(patch)) => {
            merge(object, patch);
            Ok(())
        }
        (_, patch) => {
            let why = wrong_type(&patch, "map[string]interface {}");
            Err(PatchError::BadRequest(format!("error decoding patch: {why}")))
        }
    }
}

fn merge(object: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, mut value) in patch {
        if value.is_null() {
            object.remove(&key);
            continue;
        }
        match (object.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            // Only what replaces an object keeps its nulls.
            (Some(current @ Value::Object(_)), value) => *current = value,
            (_, other) => {
                value = other;
                prune(&mut value);
                object.insert(key, value);
            }
        }
    }
}

/// Removes the null fields of all objects in a value.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut object: Value, patch: Value) -> Value {
        apply(&mut object, patch).expect("applies");
        object
    }

    /// The object cases of RFC 7386, appendix A.
    #[test]
    fn rfc_examples() {
        for (object, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            assert_eq!(merged(object, patch), result);
        }
    }

    /// Where upstream's library departs from the RFC.
    #[test]
    fn nulls_inside_of_lists() {
        let patch = json!({"a":[{"b":null,"c":[null,{"d":null}]}]});
        let pruned = json!({"a":[{"c":[null,{}]}]});
        assert_eq!(merged(json!({}), patch.clone()), pruned);
        assert_eq!(merged(json!({"a":[1]}), patch.clone()), pruned);
        assert_eq!(merged(json!({"a":{"x":1}}), patch.clone()), patch);
    }

    #[test]
    fn wrong_patches() {
        let mut object = json!({});
        assert_eq!(
            apply(&mut object, json!([])),
            Err(PatchError::BadRequest(
                "error decoding patch: json: cannot unmarshal array into Go value of type \
                 map[string]interface {}"
                    .to_owned()
            ))
        );
        assert!(apply(&mut object, Value::Null).is_err());
        assert_eq!(object, json!({}));
    }

    /// An object without nulls is a patch that changes itself into itself, and applying any patch
    /// twice is applying it once.
    #[test]
    fn laws() {
        let objects = [
            json!({"a":1,"b":{"c":[1,{"d":2}],"e":{}}}),
            json!({"b":{"c":"x","f":{"g":true}},"h":[]}),
            json!({"a":{"x":1}}),
        ];
        for object in &objects {
            assert_eq!(&merged(object.clone(), object.clone()), object);
            assert_eq!(&merged(object.clone(), json!({})), object);
            for other in &objects {
                let once = merged(object.clone(), other.clone());
                assert_eq!(merged(once.clone(), other.clone()), once);
            }
        }
    }
}
