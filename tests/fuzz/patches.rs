//! Patches of every kind. An input is a JSON list of an object and what changes it.

use apimachinery::{
    apply::{FieldFilter, FieldManager},
    patch,
    schema::{self, Schema},
};
use serde_json::{Value, json};

use crate::{
    engine::{Random, any_json, fuzz, mutate_json},
    seeds,
};

fn deployments() -> Schema {
    schema::builtin("apps", "v1", "Deployment").unwrap()
}

fn input_of(object: &Value, patch: &Value) -> Vec<u8> {
    json!([object, patch]).to_string().into_bytes()
}

fn pair(input: &[u8]) -> Option<(Value, Value)> {
    let mut both: Vec<Value> = serde_json::from_slice(input).ok()?;
    let patch = both.pop()?;
    Some((both.pop()?, patch))
}

/// An object, and a changed copy of it.
fn versions(random: &mut Random) -> (Value, Value) {
    let mut object = seeds::deployment();
    if random.below(2) == 0 {
        mutate_json(random, &mut object, seeds::WORDS);
    }
    let mut other = object.clone();
    for _ in 0..1 + random.below(5) {
        mutate_json(random, &mut other, seeds::WORDS);
    }
    (object, other)
}

fn merge_input(random: &mut Random) -> Vec<u8> {
    let (object, other) = versions(random);
    input_of(&object, &other)
}

#[test]
fn json_patches_are_applied_or_refused() {
    let steps = ["", "/metadata", "/metadata/labels/app~1x", "/spec/template/spec/containers/0"];
    let more = ["/spec/template/spec/containers/-", "/spec/replicas", "/~2", "no", "/00", "/-"];
    let paths: Vec<&str> = steps.into_iter().chain(more).collect();
    fuzz(
        "json-patch",
        |random| {
            let operations: Vec<Value> = (0..1 + random.below(5))
                .map(|_| {
                    let kinds = ["add", "remove", "replace", "move", "copy", "test", "x"];
                    let value = any_json(random, seeds::WORDS);
                    json!({
                        "op": random.pick(&kinds), "path": random.pick(&paths),
                        "from": random.pick(&paths), "value": value,
                    })
                })
                .collect();
            let mut operations = Value::Array(operations);
            if random.below(4) == 0 {
                mutate_json(random, &mut operations, seeds::WORDS);
            }
            input_of(&seeds::deployment(), &operations)
        },
        |input| {
            let Some((mut object, patch)) = pair(input) else { return };
            let Ok(patch) = patch::json::JsonPatch::parse(patch) else { return };
            let _ = patch.apply(&mut object);
        },
    );
}

#[test]
fn a_merge_patch_settles() {
    fuzz("merge-patch", merge_input, |input| {
        let Some((mut object, patch)) = pair(input) else { return };
        if patch::merge::apply(&mut object, patch.clone()).is_err() {
            return;
        }
        // Upstream takes nulls out of a list where there was one before, so the second time may still
        // change something.
        patch::merge::apply(&mut object, patch.clone()).unwrap();
        let twice = object.clone();
        patch::merge::apply(&mut object, patch).unwrap();
        assert_eq!(object, twice);
    });
}

#[test]
fn strategic_patches_are_applied_or_refused() {
    let schema = deployments();
    fuzz("strategic-patch", merge_input, |input| {
        let Some((mut object, patch)) = pair(input) else { return };
        if patch::strategic::apply(&schema, &mut object, patch).is_ok() {
            let _ = schema.conform(&mut object);
        }
    });
}

#[test]
fn an_applied_configuration_changes_nothing_the_second_time() {
    let schema = deployments();
    let now = "2026-01-02T03:04:05Z";
    fuzz("server-side-apply", merge_input, |input| {
        let Some((mut live, mut config)) = pair(input) else { return };
        let manager = FieldManager {
            schema: &schema,
            group_version: "apps/v1",
            kind: "Deployment",
            subresource: "",
            filter: FieldFilter::All,
            convert: None,
        };
        if schema.conform(&mut live).is_err() || !live.is_object() {
            return;
        }
        if let Some(metadata) = config.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        manager.track_update(None, &mut live, "before", now);
        let apply = |live: &Value| manager.apply(Some(live), &config, "me", true, now);
        let Ok(mut once) = apply(&live) else { return };
        if schema.conform(&mut once).is_err() {
            return;
        }
        let mut twice = apply(&once).unwrap();
        schema.conform(&mut twice).unwrap();
        assert_eq!(twice, once);
    });
}
