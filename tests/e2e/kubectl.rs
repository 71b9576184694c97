//! What kubectl makes of the API: apply, diff, edit, patches, dry runs.

use serde_json::Value;

use crate::support::Shared;

static SHARED: Shared = Shared::control_plane();

const PAIR: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: pair}
spec:
  selector: {matchLabels: {app: pair}}
  template:
    metadata: {labels: {app: pair}}
    spec:
      containers:
      - {name: a, image: "a:1", env: [{name: one, value: "1"}, {name: two, value: "2"}]}
      - {name: b, image: "b:1"}
"#;

fn colours(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: colours}}\ndata: {{{data}}}\n")
}

#[test]
fn apply_changes_and_removes_what_the_manifest_does_and_nothing_else() {
    let space = SHARED.space("apply");
    let apply = |data: &str| space.kubectl_with(&["apply", "-f", "-"], &colours(data)).stdout();
    assert_eq!(apply("sky: blue, sea: green"), "configmap/colours created\n");
    assert_eq!(apply("sky: blue, sea: green"), "configmap/colours unchanged\n");
    // What somebody else added is none of the manifest's business.
    let patch = r#"{"data":{"sun":"yellow"}}"#;
    space.kubectl(&["patch", "configmap", "colours", "-p", patch]).stdout();
    assert_eq!(apply("sky: grey"), "configmap/colours configured\n");
    let data = &space.get(&["configmap", "colours"])["data"];
    assert_eq!(*data, serde_json::json!({"sky": "grey", "sun": "yellow"}));
}

#[test]
fn diff_shows_what_apply_would_change_and_changes_nothing() {
    let space = SHARED.space("diff");
    space.apply(&colours("sky: blue"));
    let same = space.kubectl_with(&["diff", "-f", "-"], &colours("sky: blue"));
    assert_eq!(same.stdout(), "");
    let differs = space.kubectl_with(&["diff", "-f", "-"], &colours("sky: grey"));
    let shown = differs.out();
    differs.refused();
    assert!(shown.contains("-  sky: blue\n+  sky: grey\n"), "{shown}");
    assert_eq!(space.get(&["configmap", "colours"])["data"]["sky"], "blue");
}

#[test]
fn explain_tells_a_field_its_type_and_its_meaning() {
    let cluster = SHARED.cluster();
    let told = cluster.kubectl(&["explain", "deployment.spec.strategy.rollingUpdate"]).stdout();
    for part in ["GROUP:      apps", "KIND:       Deployment", "maxSurge\t<IntOrString>"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let all = cluster.kubectl(&["explain", "pod", "--recursive"]).stdout();
    assert!(all.contains("terminationGracePeriodSeconds\t<integer>"), "{all}");
    let unknown = cluster.kubectl(&["explain", "pod.spec.nothing"]).refused();
    assert!(unknown.contains(r#"field "nothing" does not exist"#), "{unknown}");
}

#[test]
fn edit_writes_back_what_the_editor_left() {
    let space = SHARED.space("edit");
    space.apply(&colours("sky: blue"));
    let editor = "KUBE_EDITOR=sed -i s/blue/grey/";
    let edited = ["-n", space.name, "edit", "configmap", "colours"];
    let said = space.cluster.client(&[editor], "kubectl", &edited).stdout();
    assert_eq!(said, "configmap/colours edited\n");
    assert_eq!(space.get(&["configmap", "colours"])["data"]["sky"], "grey");
    let again = space.cluster.client(&["KUBE_EDITOR=true"], "kubectl", &edited).err();
    assert!(again.contains("no changes made"), "{again}");
}

#[test]
fn a_field_of_another_manager_is_a_conflict_until_it_is_forced() {
    let space = SHARED.space("server-side");
    let apply = |manager: &str, force: bool, data: &str| {
        let manager = format!("--field-manager={manager}");
        let force = format!("--force-conflicts={force}");
        let all = ["apply", "--server-side", &manager, &force, "-f", "-"];
        space.kubectl_with(&all, &colours(data))
    };
    apply("one", false, "sky: blue, sea: green").stdout();
    apply("two", false, "sun: yellow").stdout();
    // The same value is shared, another one is a conflict.
    apply("two", false, "sun: yellow, sea: green").stdout();
    let conflict = apply("two", false, "sun: yellow, sky: grey").refused();
    let expected = r#"conflict with "one": .data.sky"#;
    assert!(conflict.contains(expected), "{conflict}");
    apply("two", true, "sun: yellow, sky: grey").stdout();
    // What one no longer names and nobody else does goes; what two took from it stays.
    apply("one", false, "{}").refused();
    apply("one", false, "").stdout();
    let found = space.get(&["configmap", "colours", "--show-managed-fields"]);
    assert_eq!(found["data"], serde_json::json!({"sky": "grey", "sun": "yellow"}));
    let managers: Vec<&str> = found["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["manager"].as_str().unwrap())
        .collect();
    assert!(managers.contains(&"two"), "{managers:?}");
}

#[test]
fn each_kind_of_patch_merges_lists_in_its_own_way() {
    let space = SHARED.space("patches");
    space.apply(PAIR);
    let images = |deployment: &Value| -> Vec<String> {
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        let image =
            |c: &Value| format!("{}={}", c["name"].as_str().unwrap(), c["image"].as_str().unwrap());
        containers.iter().map(image).collect()
    };
    let patch = |kind: &str, patch: &str| {
        let kind = format!("--type={kind}");
        space.kubectl(&["patch", "deployment", "pair", &kind, "-p", patch])
    };
    let containers =
        |list: &str| format!(r#"{{"spec":{{"template":{{"spec":{{"containers":{list}}}}}}}}}"#);

    patch("strategic", &containers(r#"[{"name":"b","image":"b:2"}]"#)).stdout();
    assert_eq!(images(&space.get(&["deployment", "pair"])), ["a=a:1", "b=b:2"]);

    let env =
        r#"[{"name":"a","env":[{"name":"one","$patch":"delete"},{"name":"two","value":"3"}]}]"#;
    patch("strategic", &containers(env)).stdout();
    let found = space.get(&["deployment", "pair"]);
    let env = &found["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, serde_json::json!([{"name": "two", "value": "3"}]));

    let guarded = r#"[
        {"op":"test","path":"/spec/template/spec/containers/1/image","value":"b:1"},
        {"op":"remove","path":"/spec/template/spec/containers/0"}]"#;
    patch("json", guarded).refused();
    patch("json", &guarded.replace("b:1", "b:2")).stdout();
    assert_eq!(images(&space.get(&["deployment", "pair"])), ["b=b:2"]);

    patch("merge", &containers(r#"[{"name":"c","image":"c:1"}]"#)).stdout();
    assert_eq!(images(&space.get(&["deployment", "pair"])), ["c=c:1"]);
}

#[test]
fn a_dry_run_answers_like_the_real_thing_and_stores_nothing() {
    let space = SHARED.space("dry-run");
    let dry = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let answer = space.kubectl_with(&dry, PAIR).stdout();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["metadata"]["uid"].is_string(), "{answer}");
    assert_eq!(answer["spec"]["revisionHistoryLimit"], 10, "defaults are filled in");
    space.kubectl(&["get", "deployment", "pair"]).refused();
    let invalid =
        space.kubectl_with(&dry, &PAIR.replace("app: pair}}\n    spec", "app: other}}\n    spec"));
    let invalid = invalid.refused();
    assert!(invalid.contains("`selector` does not match template `labels`"), "{invalid}");

    space.apply(PAIR);
    space.kubectl(&["delete", "deployment", "pair", "--dry-run=server"]).stdout();
    let scale = ["scale", "deployment", "pair", "--replicas=3", "--dry-run=server"];
    space.kubectl(&scale).stdout();
    assert_eq!(space.get(&["deployment", "pair"])["spec"]["replicas"], 1);
}

#[test]
fn generate_name_gives_every_object_a_name_of_its_own() {
    let space = SHARED.space("generate-name");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: made-}\n";
    for _ in 0..3 {
        space.kubectl_with(&["create", "-f", "-"], map).stdout();
    }
    let mut names = space.names(&["configmaps"]);
    names.retain(|name| name.starts_with("made-") && name.len() == "made-".len() + 5);
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn an_unknown_field_is_refused_and_named() {
    let space = SHARED.space("strict");
    let typo = PAIR.replace("image: \"b:1\"", "image: \"b:1\", comand: [x]");
    let refused = space.kubectl_with(&["create", "-f", "-"], &typo).refused();
    let expected = r#"unknown field "spec.template.spec.containers[1].comand""#;
    assert!(refused.contains(expected), "{refused}");
    let warned = space.kubectl_with(&["create", "--validate=warn", "-f", "-"], &typo);
    assert!(warned.err().contains(expected), "{warned}");
    warned.stdout();
}
