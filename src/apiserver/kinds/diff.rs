//! What changed between two values, for the messages that say that something may not change.

use std::fmt::Write as _;

use serde_json::Value;

use super::value::same;

/// One line for each place that differs: `-` with what was there, `+` with what is there now.
pub(crate) fn diff(old: &Value, new: &Value) -> String {
    let mut out = String::new();
    collect(old, new, "", &mut out);
    out
}

fn collect(old: &Value, new: &Value, path: &str, out: &mut String) {
    if same(old, new) {
        return;
    }
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let side = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                collect(&side(before), &side(after), &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                collect(before, after, &format!("{path}[{at}]"), out);
            }
        }
        _ => {
            let path = path.trim_start_matches('.');
            for (sign, value) in [('-', old), ('+', new)] {
                if !value.is_null() {
                    let _ = writeln!(out, "{sign} {path}: {value}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_changed_place_is_named() {
        let old = json!({"a": 1, "b": [{"c": "x"}], "d": null, "e": 1});
        let new = json!({"a": 1, "b": [{"c": "y"}], "f": true});
        assert_eq!(diff(&old, &new), "- b[0].c: \"x\"\n+ b[0].c: \"y\"\n- e: 1\n+ f: true\n");
    }
}
