//! The API as kubectl and plain HTTP see it.

use crate::support::{Cluster, LONG, eventually};

#[test]
fn kubectl_creates_reads_changes_and_deletes_an_object() {
    let cluster = Cluster::control_plane();
    // `create configmap` sends protobuf.
    cluster.kubectl(&["create", "configmap", "colours", "--from-literal=sky=blue"]).stdout();
    let created = cluster.get(&["configmap", "colours"]);
    assert_eq!(created["data"]["sky"], "blue");

    let patch = r#"{"data":{"sky":"grey","sea":"green"}}"#;
    cluster.kubectl(&["patch", "configmap", "colours", "--type=merge", "-p", patch]).stdout();
    let patched = cluster.get(&["configmap", "colours"]);
    assert_eq!(
        (&patched["data"]["sky"], &patched["data"]["sea"]),
        (&"grey".into(), &"green".into())
    );
    assert_ne!(created["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"]);
    assert_eq!(created["metadata"]["uid"], patched["metadata"]["uid"]);

    cluster.kubectl(&["delete", "configmap", "colours"]).stdout();
    let gone = cluster.kubectl(&["get", "configmap", "colours"]).refused();
    assert!(gone.contains(r#"configmaps "colours" not found"#), "{gone}");
}

#[test]
fn a_stale_update_is_a_conflict_and_a_second_create_already_exists() {
    let cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "configmap", "one"]).stdout();
    let again = cluster.kubectl(&["create", "configmap", "one"]).refused();
    assert!(again.contains("(AlreadyExists)") || again.contains("already exists"), "{again}");

    let mut stale = cluster.get(&["configmap", "one"]);
    cluster.kubectl(&["label", "configmap", "one", "touched=yes"]).stdout();
    stale["data"] = serde_json::json!({"a": "b"});
    let refused = cluster.kubectl_with(&["replace", "-f", "-"], &stale.to_string()).refused();
    assert!(refused.contains("the object has been modified"), "{refused}");
}

#[test]
fn a_watch_tells_what_happened_after_its_revision() {
    let cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "configmap", "before"]).stdout();
    let list = cluster.request("GET", "/api/v1/namespaces/default/configmaps", &[]).1;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    cluster.kubectl(&["create", "configmap", "after"]).stdout();
    cluster.kubectl(&["delete", "configmap", "before"]).stdout();
    let path = format!(
        "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={revision}"
    );
    let (code, body) = cluster.request("GET", &path, &[]);
    assert_eq!(code, 200);
    let events: Vec<(String, String)> = body
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
        })
        .collect();
    let expected = [("ADDED", "after"), ("DELETED", "before")];
    assert_eq!(events, expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
}

#[test]
fn hostile_bodies_get_a_status_and_the_server_lives_on() {
    let cluster = Cluster::control_plane();
    let maps = "/api/v1/namespaces/default/configmaps";
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let json = ["-H", "Content-Type: application/json"];
    let protobuf = ["-H", "Content-Type: application/vnd.kubernetes.protobuf"];
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    // As deep as JSON may be: schemas are followed further than they are read.
    let nested = |open: &str, close: &str| {
        let schema = format!("{}{{}}{}", open.repeat(480), close.repeat(480));
        format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#)
    };
    let not = nested(r#"{"not":"#, "}");
    let items = nested(r#"{"items":["#, "]}");
    let cases: [(&str, &str, &[&str], u16); 7] = [
        (maps, "{", &json, 400),
        (maps, r#"{"kind":"Pod","apiVersion":"v1"}"#, &json, 400),
        (maps, &deep, &json, 400),
        (maps, "k8s\0\u{1}\u{7f}", &protobuf, 400),
        (maps, "<xml/>", &["-H", "Content-Type: text/xml"], 415),
        (definitions, &not, &json, 422),
        (definitions, &items, &json, 400),
    ];
    for (path, body, headers, expected) in cases {
        let file = cluster.data().join("body");
        std::fs::write(&file, body).unwrap();
        let data = format!("@{}", file.display());
        let mut arguments = headers.to_vec();
        arguments.extend(["--data-binary", &data]);
        let (code, answer) = cluster.request("POST", path, &arguments);
        assert_eq!(code, expected, "{answer}");
        let status: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status["kind"], "Status", "{answer}");
    }
    cluster.kubectl(&["get", "--raw=/readyz"]).stdout();
}

#[test]
fn a_second_server_on_the_data_directory_says_so_and_ends() {
    let cluster = Cluster::control_plane();
    let mut flags = cluster.server_flags();
    flags.insert(0, "server".to_owned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let refused = cluster.on_node(env!("CARGO_BIN_EXE_knarr"), &flags).refused();
    let pid = format!("another knarr server (pid {})", cluster.pid());
    assert!(refused.contains(&pid), "{refused}");
}

#[test]
fn fields_are_managed_by_who_wrote_them_under_upstreams_names() {
    let cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "deployment", "web", "--image=web"]).stdout();
    let deployment = eventually("the controller's status", LONG, || {
        let deployment = cluster.get(&["deployment", "web", "--show-managed-fields"]);
        match deployment["status"]["observedGeneration"].is_u64() {
            true => Ok(deployment),
            false => Err(deployment.to_string()),
        }
    });
    let managed = deployment["metadata"]["managedFields"].as_array().unwrap();
    let of = |manager: &str| managed.iter().find(|entry| entry["manager"] == manager).unwrap();
    assert!(of("kubectl-create")["fieldsV1"]["f:spec"]["f:replicas"].is_object());
    let status = of("kube-controller-manager");
    assert_eq!(status["subresource"], "status");
    assert!(status["fieldsV1"]["f:status"]["f:observedGeneration"].is_object());
}
