//! Merging what a mutating admission policy wants into an object: like an apply, but nobody comes to
//! own anything, and nothing that is atomic may be replaced.

use serde_json::Value;

use super::merge::merge;
use super::types::{Shape, Type};
use super::validate::validate;
use crate::schema::{ListType, Schema};

/// Merges `config` into `object`; the error is in upstream's words.
pub fn merge_untracked(schema: &Schema, object: &mut Value, config: &Value) -> Result<(), String> {
    let ty = Type::of(schema);
    validate(config, ty)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut atomic = Vec::new();
    find_atomic("", config, ty, &mut atomic);
    if !atomic.is_empty() {
        let all = atomic.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {all}"
        ));
    }
    merge(object, config, ty).map_err(|why| format!("failed to merge patch: {why}"))
}

fn find_atomic(path: &str, value: &Value, ty: Type<'_>, found: &mut Vec<String>) {
    match (ty.shape(Some(value)), value) {
        (Shape::Map(fields), Value::Object(map)) => {
            if fields.atomic {
                found.push(path.to_owned());
            }
            for (name, value) in map {
                if let Some(ty) = fields.field(name).filter(|_| fields.declares(name)) {
                    find_atomic(&format!("{path}.{name}"), value, ty, found);
                }
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            if list.relation == ListType::Atomic {
                found.push(path.to_owned());
            }
            for (at, item) in items.iter().enumerate() {
                find_atomic(&format!("{path}[{at}]"), item, list.items, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::builtin_type;

    #[test]
    fn lists_with_keys_are_merged_and_atomic_ones_refused() {
        let schema = builtin_type("io.k8s.api.core.v1.Pod").unwrap();
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "spec": {"containers": [{"name": "a", "image": "x"}]}});
        let config = json!({"apiVersion": "v1", "kind": "Pod",
            "spec": {"containers": [{"name": "b", "image": "y"}], "hostname": "h"}});
        merge_untracked(&schema, &mut pod, &config).unwrap();
        assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), 2);
        assert_eq!(pod["spec"]["hostname"], "h");
        let config = json!({"spec": {"containers": [{"name": "a", "command": ["sh"]}]}});
        let error = merge_untracked(&schema, &mut pod, &config).unwrap_err();
        assert!(error.contains("may not mutate atomic arrays"), "{error}");
        let config = json!({"spec": {"hostnam": "h"}});
        assert!(merge_untracked(&schema, &mut pod, &config).is_err());
    }
}
