//! Sequences of requests compared with upstream's field manager (testdata/apply.json, made by
//! ../testdata/generate), and what only the inside can show.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::Status;
use crate::schema;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    schema: Option<Value>,
    live: Option<Value>,
    steps: Vec<Step>,
}

#[derive(serde::Deserialize)]
struct Step {
    op: String,
    manager: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    exclude: Vec<String>,
    object: Value,
    result: Option<Value>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    causes: BTreeMap<String, String>,
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

fn schema_of(case: &Case) -> Schema {
    if let Some(schema) = &case.schema {
        return schema::from_crd(schema).expect("structural");
    }
    let object = &case.steps[0].object;
    let version = text(object, "apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    schema::builtin(group, version, text(object, "kind")).expect("built in")
}

/// The object as it would be stored, without what the fixture sets and what is compared apart.
fn stored(schema: &Schema, object: &Value) -> Value {
    let mut object = object.clone();
    schema.conform(&mut object).expect("fits its schema");
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        metadata.remove("uid");
    }
    object
}

fn lines(fields: &Value) -> String {
    let entries = fields.as_array().into_iter().flatten();
    entries.map(|entry| format!("{entry}\n")).collect()
}

/// Runs the steps of a case, each on the object that upstream had before it.
fn run(case: &Case) {
    let schema = schema_of(case);
    let object = &case.steps[0].object;
    let mut live = case.live.clone();
    for (i, step) in case.steps.iter().enumerate() {
        let place = format!("{}, step {i}", case.name);
        let mut excluded = Set::default();
        for path in &step.exclude {
            let path: Vec<&str> = path.split('.').collect();
            excluded.union(Set::of_fields([path.as_slice()]));
        }
        let request = FieldManager {
            schema: &schema,
            group_version: text(object, "apiVersion"),
            kind: text(object, "kind"),
            subresource: &step.subresource,
            filter: FieldFilter::Exclude(&excluded),
            convert: None,
        };
        let now = format!("2026-01-01T00:00:{i:02}Z");
        let result = if step.op == "apply" {
            request.apply(live.as_ref(), &step.object, &step.manager, step.force, &now)
        } else {
            let mut new = step.object.clone();
            schema.conform(&mut new).expect("fits its schema");
            // An empty list, which asks to forget all managers, does not survive the schema.
            if step.object["metadata"]["managedFields"] == json!([]) {
                new["metadata"]["managedFields"] = json!([]);
            }
            request.track_update(live.as_ref(), &mut new, &step.manager, &now);
            Ok(new)
        };
        match (result, &step.result) {
            (Ok(result), Some(wanted)) => {
                let stored = [&result, wanted].map(|object| stored(&schema, object));
                assert_eq!(stored[0], stored[1], "{place}");
                let fields = |object: &Value| lines(&object["metadata"]["managedFields"]);
                let (got, wanted) = (fields(&result), fields(wanted));
                assert!(got == wanted, "{place}:\ngot\n{got}wanted\n{wanted}");
            }
            (Err(error), None) => {
                // Upstream walks maps in no order.
                let sorted = |text: &str| {
                    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                    lines.sort();
                    lines
                };
                assert_eq!(sorted(&error.to_string()), sorted(&step.error), "{place}");
                let causes = Status::from(error).details.causes;
                let causes: BTreeMap<String, String> =
                    causes.into_iter().map(|c| (c.field, c.message)).collect();
                assert_eq!(causes, step.causes, "{place}");
            }
            (Ok(result), None) => panic!("{place}: {result}\nwanted {}", step.error),
            (Err(error), Some(_)) => panic!("{place}: {error}"),
        }
        if step.result.is_some() {
            live.clone_from(&step.result);
        }
    }
}

#[test]
fn agrees_with_upstream() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("testdata/apply.json")).expect("fixture is JSON");
    for case in &cases {
        run(case);
    }
}
