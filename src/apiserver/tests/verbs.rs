//! Create, get, update and delete, as any client sees them.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test]
async fn an_object_lives_and_dies() {
    let server = common::start().await;
    let (code, created) = server.post(MAPS, &map("a")).await;
    assert_eq!(code, 201);
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert!(
        metadata["uid"].as_str().unwrap().len() == 36 && metadata["resourceVersion"].is_string()
    );
    assert_eq!(metadata["managedFields"][0]["manager"], "test");

    let (code, again) = server.post(MAPS, &map("a")).await;
    assert_eq!((code, again["reason"].as_str()), (409, Some("AlreadyExists")));
    assert_eq!(again["message"], "configmaps \"a\" already exists");

    let (code, read) = server.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, &read), (200, &created));

    let (code, status) = server.delete(&format!("{MAPS}/a"), &Value::Null).await;
    assert_eq!((code, status["status"].as_str()), (200, Some("Success")));
    assert_eq!(status["details"]["uid"], metadata["uid"]);
    let (code, missing) = server.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, missing["message"].as_str()), (404, Some("configmaps \"a\" not found")));
}

#[tokio::test]
async fn updates_are_checked_against_the_version() {
    let server = common::start().await;
    let path = format!("{MAPS}/a");
    let (_, first) = server.post(MAPS, &map("a")).await;
    let mut second = first.clone();
    second["data"]["a"] = json!("2");
    let (code, stored) = server.put(&path, &second).await;
    assert_eq!((code, stored["data"]["a"].as_str()), (200, Some("2")));
    assert_eq!(stored["metadata"]["uid"], first["metadata"]["uid"]);

    let (code, conflict) = server.put(&path, &second).await;
    assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")));
    assert!(conflict["message"].as_str().unwrap().contains("the object has been modified"));

    // Without a version the last writer wins; what changes nothing is not written.
    let (code, _) = server.put(&path, &map("a")).await;
    assert_eq!(code, 200);
    let (_, before) = server.get(&path).await;
    let (_, after) = server.put(&path, &before).await;
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);

    let (code, _) = server.put(&format!("{MAPS}/none"), &map("none")).await;
    assert_eq!(code, 404, "config maps are not created by a PUT");
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    assert_eq!(server.put(leases, &lease).await.0, 201, "leases are");
    let (code, invalid) = server.put(leases, &lease).await;
    assert_eq!((code, invalid["reason"].as_str()), (422, Some("Invalid")));
    assert!(invalid["message"].as_str().unwrap().ends_with("must be specified for an update"));
}

#[tokio::test]
async fn two_writers_without_versions_both_succeed() {
    let server = std::sync::Arc::new(common::start().await);
    server.post(MAPS, &map("a")).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let server = server.clone();
            tokio::spawn(async move {
                for step in 0..10 {
                    let patch = json!({"data": {format!("w{writer}"): step.to_string()}});
                    let path = format!("{MAPS}/a");
                    let (code, _) = server.patch(&path, "merge-patch+json", &patch).await;
                    assert_eq!(code, 200);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let (_, object) = server.get(&format!("{MAPS}/a")).await;
    assert!((0..8).all(|writer| object["data"][format!("w{writer}")] == "9"), "{object}");
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_store_nothing() {
    let server = common::start().await;
    let body = json!({"metadata": {"generateName": "g-"}});
    let (code, one) = server.post(MAPS, &body).await;
    let (_, two) = server.post(MAPS, &body).await;
    assert_eq!(code, 201);
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&one).starts_with("g-") && name(&one) != name(&two));

    let (code, dry) = server.post(&format!("{MAPS}?dryRun=All"), &map("dry")).await;
    assert_eq!((code, dry["metadata"]["name"].as_str()), (201, Some("dry")));
    assert_eq!(server.get(&format!("{MAPS}/dry")).await.0, 404);
    server.post(MAPS, &map("kept")).await;
    let path = format!("{MAPS}/kept?dryRun=All");
    let (_, patched) = server.patch(&path, "merge-patch+json", &json!({"data": {"b": "2"}})).await;
    assert_eq!(patched["data"]["b"], "2");
    assert_eq!(server.delete(&path, &Value::Null).await.0, 200);
    let (code, kept) = server.get(&format!("{MAPS}/kept")).await;
    assert_eq!((code, kept["data"].get("b")), (200, None));
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let server = common::start().await;
    let mut body = map("f");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(MAPS, &body).await;
    let path = format!("{MAPS}/f");
    let (code, marked) = server.delete(&path, &Value::Null).await;
    assert_eq!(code, 200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    assert_eq!(server.patch(&path, "merge-patch+json", &more).await.0, 422);
    let none = json!({"metadata": {"finalizers": null}});
    assert_eq!(server.patch(&path, "merge-patch+json", &none).await.0, 200);
    assert_eq!(server.get(&path).await.0, 404);
}

#[tokio::test]
async fn deletions_have_policies_and_preconditions() {
    let server = common::start().await;
    let (_, object) = server.post(MAPS, &map("a")).await;
    let path = format!("{MAPS}/a");
    let wrong = json!({"kind": "DeleteOptions", "preconditions": {"uid": "other"}});
    let (code, conflict) = server.delete(&path, &wrong).await;
    assert_eq!(code, 409);
    assert!(conflict["message"].as_str().unwrap().contains("the UID in the precondition (other)"));
    let (_, orphaned) = server.delete(&path, &json!({"propagationPolicy": "Orphan"})).await;
    assert_eq!(orphaned["metadata"]["finalizers"], json!(["orphan"]));
    let (_, foreground) = {
        server.post(MAPS, &map("b")).await;
        server.delete(&format!("{MAPS}/b?propagationPolicy=Foreground"), &Value::Null).await
    };
    assert_eq!(foreground["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_ne!(object["metadata"]["uid"], foreground["metadata"]["uid"]);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = common::start().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut body = map(name);
        body["metadata"]["labels"] = json!({"l": label});
        server.post(MAPS, &body).await;
    }
    let (code, list) = server.delete(&format!("{MAPS}?labelSelector=l%3Dx"), &Value::Null).await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(2)));
    let (_, left) = server.get(&format!("{MAPS}?labelSelector=l")).await;
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn status_and_scale_are_parts_of_their_own() {
    let server = common::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let container = json!({"name": "c", "image": "i"});
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}},
        "status": {"replicas": 7},
    });
    let (code, created) = server.post(path, &deployment).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["status"].get("replicas"), None, "a client does not set it");
    let one = format!("{path}/d");
    let status = json!({"spec": {"replicas": 5}, "status": {"replicas": 1}});
    let (_, written) = server.patch(&format!("{one}/status"), "merge-patch+json", &status).await;
    assert_eq!(
        (&written["spec"]["replicas"], &written["status"]["replicas"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(written["metadata"]["generation"], 1);
    let (_, spec) = server.patch(&one, "merge-patch+json", &status).await;
    assert_eq!(
        (&spec["spec"]["replicas"], &spec["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );

    let (_, mut scale) = server.get(&format!("{one}/scale")).await;
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(5), &json!("a=b"))
    );
    scale["spec"]["replicas"] = json!(2);
    let (code, scaled) = server.put(&format!("{one}/scale"), &scale).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(2)));
    assert_eq!(server.put(&format!("{one}/scale"), &scale).await.0, 409);
    let negative = json!({"spec": {"replicas": -1}});
    let (code, _) = server.patch(&format!("{one}/scale"), "merge-patch+json", &negative).await;
    assert_eq!(code, 422);
    let (_, object) = server.get(&one).await;
    assert_eq!(object["spec"]["replicas"], 2);
}

#[tokio::test]
async fn a_pod_is_bound_once_and_dies_gracefully() {
    let server = common::start().await;
    let path = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 5}});
    let (code, created) = server.post(path, &pod).await;
    assert_eq!(code, 201, "{created}");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(server.post(&format!("{path}/p/binding"), &binding).await.0, 201);
    let (code, twice) = server.post(&format!("{path}/p/binding"), &binding).await;
    assert_eq!(code, 409);
    assert!(twice["message"].as_str().unwrap().contains("already assigned to node \"n\""));
    let (_, bound) = server.get(&format!("{path}?fieldSelector=spec.nodeName%3Dn")).await;
    assert_eq!(bound["items"][0]["status"]["conditions"][0]["type"], "PodScheduled");

    let running = json!({"status": {"phase": "Running"}});
    server.patch(&format!("{path}/p/status"), "merge-patch+json", &running).await;
    let (_, dying) = server.delete(&format!("{path}/p"), &Value::Null).await;
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 5);
    let (_, sooner) = server.delete(&format!("{path}/p?gracePeriodSeconds=2"), &Value::Null).await;
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 2);
    assert_eq!(server.get(&format!("{path}/p")).await.0, 200);
    server.delete(&format!("{path}/p?gracePeriodSeconds=0"), &Value::Null).await;
    assert_eq!(server.get(&format!("{path}/p")).await.0, 404);
}
