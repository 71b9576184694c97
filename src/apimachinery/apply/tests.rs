//! Sequences of requests compared with upstream's field manager (testdata/apply.json, made by
//! ../testdata/generate), and what only the inside can show.

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
    causes: Vec<String>,
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

/// As upstream's types have it; custom resources have no types. An empty list, which asks to
/// forget all managers, does not survive that.
fn conform(case: &Case, schema: &Schema, object: &mut Value) {
    let reset = object["metadata"]["managedFields"] == json!([]);
    if case.schema.is_none() {
        schema.conform(object).expect("fits its schema");
    }
    if reset {
        object["metadata"]["managedFields"] = json!([]);
    }
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
    if let Some(live) = &mut live {
        conform(case, &schema, live);
    }
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
            conform(case, &schema, &mut new);
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
                let mut causes: Vec<String> =
                    causes.iter().map(|c| format!("{} {}", c.field, c.message)).collect();
                causes.sort();
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

fn request<'a>(schema: &'a Schema, version: &'a str, kind: &'a str) -> FieldManager<'a> {
    let filter = FieldFilter::All;
    FieldManager { schema, group_version: version, kind, subresource: "", filter, convert: None }
}

const NOW: &str = "2026-01-01T00:00:00Z";

/// What is owned at another version is compared, and removed, at that version.
#[test]
fn converts_between_versions() {
    let schema = |field: &str| {
        let spec = json!({"type": "object", "properties": {
            field: {"type": "string"}, "other": {"type": "string"},
        }});
        schema::from_crd(&json!({"type": "object", "properties": {"spec": spec}}))
            .expect("structural")
    };
    let (one, two) = (schema("old"), schema("new"));
    let convert = |object: &Value, version: &str| {
        let (schema, from, to) = match version {
            "g/v1" => (&one, "new", "old"),
            "g/v2" => (&two, "old", "new"),
            _ => return Ok(None),
        };
        let mut object = object.clone();
        object["apiVersion"] = json!(version);
        if let Some(moved) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
            object["spec"][to] = moved;
        }
        Ok(Some((object, schema.clone())))
    };
    let at =
        |schema, version| FieldManager { convert: Some(&convert), ..request(schema, version, "K") };
    let (first, second) = (at(&one, "g/v1"), at(&two, "g/v2"));
    let object = |version: &str, spec: Value| json!({"apiVersion": version, "kind": "K", "metadata": {"name": "n"}, "spec": spec});
    let config = object("g/v1", json!({"old": "x", "other": "y"}));
    let live = first.apply(None, &config, "a", false, NOW).expect("applies");
    let (live, _) = convert(&live, "g/v2").expect("converts").expect("served");

    let config = object("g/v2", json!({"new": "z"}));
    let error = second.apply(Some(&live), &config, "b", false, NOW).expect_err("conflict");
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.old");
    let mut updated = live.clone();
    updated["spec"]["new"] = json!("z");
    second.track_update(Some(&live), &mut updated, "b", NOW);
    let fields = &updated["metadata"]["managedFields"];
    assert_eq!(fields[0]["apiVersion"], "g/v1");
    assert_eq!(fields[0]["fieldsV1"], json!({"f:spec": {"f:other": {}}}));
    assert_eq!(fields[1]["fieldsV1"], json!({"f:spec": {"f:new": {}}}));

    // The same manager at the new version gives up what it applied at the old one.
    let config = object("g/v2", json!({"new": "x"}));
    let applied = second.apply(Some(&live), &config, "a", false, NOW).expect("applies");
    assert_eq!(applied["spec"], json!({"new": "x"}));
    assert_eq!(applied["metadata"]["managedFields"][0]["apiVersion"], "g/v2");

    // A version that is gone is forgotten with all that was owned at it.
    let gone = at(&two, "g/v2");
    let mut old = live.clone();
    old["metadata"]["managedFields"][0]["apiVersion"] = json!("g/v0");
    let applied = gone.apply(Some(&old), &object("g/v2", json!({"new": "z"})), "b", false, NOW);
    let applied = applied.expect("nobody is in the way");
    assert_eq!(applied["metadata"]["managedFields"].as_array().map(Vec::len), Some(1));
}

/// Lists of a size that only an attacker sends, and nesting as deep as JSON is read.
#[test]
fn hostile_objects_take_no_time() {
    let schema = schema::builtin("", "v1", "Pod").expect("built in");
    let request = request(&schema, "v1", "Pod");
    let pod = |from: usize, value: &str| {
        let env: Vec<Value> = (from..from + 4_000)
            .map(|i| json!({"name": format!("E{i}"), "value": value}))
            .collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
               "spec": {"containers": [{"name": "a", "env": env}]}})
    };
    let live = request.apply(None, &pod(0, "1"), "a", false, NOW).expect("applies");
    let error = request.apply(Some(&live), &pod(2_000, "2"), "b", false, NOW);
    assert!(matches!(error, Err(ApplyError::Conflict(conflicts)) if conflicts.len() == 2_000));
    let forced = request.apply(Some(&live), &pod(2_000, "2"), "b", true, NOW).expect("applies");
    let fewer = request.apply(Some(&forced), &pod(6_000, "3"), "b", true, NOW).expect("applies");
    // Half of what it gives up is still the other's.
    let env = &fewer["spec"]["containers"][0]["env"];
    assert_eq!(env.as_array().map(Vec::len), Some(8_000));

    let free =
        schema::from_crd(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
            .expect("structural");
    let mut deep = json!({"x": 1});
    for _ in 0..120 {
        deep = json!({"d": deep});
    }
    let config =
        json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "deep": deep});
    let request = FieldManager { schema: &free, group_version: "g/v1", kind: "K", ..request };
    let live = request.apply(None, &config, "a", false, NOW).expect("applies");
    assert!(request.apply(Some(&live), &config, "b", false, NOW).is_ok());
}

#[test]
fn sets_obey_the_laws() {
    let path =
        |names: &str| names.split('.').map(|n| PathElement::Field(n.into())).collect::<Vec<_>>();
    let set = |paths: &[&str]| {
        let mut set = Set::default();
        for p in paths {
            set.insert(path(p));
        }
        set
    };
    let sets = [
        set(&[]),
        set(&["a", "a.b", "c.d"]),
        set(&["a.b", "c", "e.f.g"]),
        set(&["a", "c.d", "c.e", "e"]),
    ];
    for a in &sets {
        assert_eq!(&fields_v1::decode(&fields_v1::encode(a)).expect("round trip"), a);
        for b in &sets {
            let mut union = a.clone();
            union.union(b.clone());
            let both = a.intersection(b);
            let mut only_a = a.clone();
            only_a.subtract(b);
            assert_eq!(union.len(), a.len() + b.len() - both.len());
            assert_eq!(only_a.len(), a.len() - both.len());
            assert_eq!(a.intersects(b), !both.is_empty());
            assert_eq!(a.is_subset(b), both == *a);
            assert!(a.is_subset(&union) && b.is_subset(&union));
            for p in union.paths() {
                assert_eq!(both.has(&p), a.has(&p) && b.has(&p), "{}", path_text(&p));
                assert_eq!(only_a.has(&p), a.has(&p) && !b.has(&p), "{}", path_text(&p));
            }
        }
    }
    let mut all = sets[1].clone();
    all.subtract_with_children(&set(&["a"]));
    assert_eq!(all, set(&["c.d"]));
    assert_eq!(sets[1].leaves(), set(&["a.b", "c.d"]));
}
