//! Patches and server-side apply.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                {"name": "one", "image": "i:1", "env": [{"name": "X", "value": "1"}]}]}}},
    })
}

#[tokio::test]
async fn each_kind_of_patch_does_its_own() {
    let server = common::start().await;
    assert_eq!(server.post(DEPLOYMENTS, &deployment()).await.0, 201);
    let path = format!("{DEPLOYMENTS}/d");
    let containers = |object: &Value| object["spec"]["template"]["spec"]["containers"].clone();

    let two =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "two", "image": "j"}]}}}});
    let (_, merged) = server.patch(&path, "strategic-merge-patch+json", &two).await;
    assert_eq!(containers(&merged).as_array().unwrap().len(), 2, "merged by name");
    let (_, replaced) = server.patch(&path, "merge-patch+json", &two).await;
    assert_eq!(containers(&replaced).as_array().unwrap().len(), 1, "replaced as a whole");
    let operations = json!([
        {"op": "test", "path": "/spec/template/spec/containers/0/name", "value": "two"},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "k"}]);
    let (_, edited) = server.patch(&path, "json-patch+json", &operations).await;
    assert_eq!(containers(&edited)[0]["image"], "k");
    let failing = json!([{"op": "test", "path": "/spec/replicas", "value": 99}]);
    assert_eq!(server.patch(&path, "json-patch+json", &failing).await.0, 422);
    assert_eq!(server.patch(&path, "json", &json!({})).await.0, 415);
}

#[tokio::test]
async fn unknown_and_mistyped_fields_are_told() {
    let server = common::start().await;
    let body = json!({"metadata": {"name": "a"}, "dada": {}});
    let (code, refused) = server.post(&format!("{MAPS}?fieldValidation=Strict"), &body).await;
    assert_eq!(code, 400);
    let message = refused["message"].as_str().unwrap();
    assert!(message.ends_with("strict decoding error: unknown field \"dada\""), "{message}");
    let (code, stored) = server.post(MAPS, &body).await;
    assert_eq!((code, stored.get("dada")), (201, None), "dropped");
    let twice = r#"{"metadata":{"name":"b","name":"c"}}"#;
    let path = format!("{MAPS}?fieldValidation=Strict");
    let (_, refused) = server.send("POST", &path, "application/json", twice).await;
    assert!(refused["message"].as_str().unwrap().contains("duplicate field \"metadata.name\""));
    let (code, refused) =
        server.post(MAPS, &json!({"metadata": {"name": "a"}, "data": {"k": 1}})).await;
    assert_eq!(code, 400);
    assert!(refused["message"].as_str().unwrap().contains("cannot unmarshal number"));
}

async fn apply(
    server: &common::Server,
    path: &str,
    manager: &str,
    more: &str,
    body: &Value,
) -> (u16, Value) {
    let path = format!("{path}?fieldManager={manager}{more}");
    server.send("PATCH", &path, "application/apply-patch+yaml", &body.to_string()).await
}

#[tokio::test]
async fn appliers_share_an_object_and_clash_over_fields() {
    let server = common::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let (code, created) = apply(&server, &path, "one", "", &deployment()).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["spec"]["replicas"], 1, "defaulted");
    let (code, same) = apply(&server, &path, "one", "", &deployment()).await;
    assert_eq!(
        (code, &same["metadata"]["resourceVersion"]),
        (200, &created["metadata"]["resourceVersion"])
    );

    let with = |value: i64, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"replicas": value, "template": {"spec": {"containers": [
                {"name": "one", "image": image}]}}}})
    };
    let (code, _) = apply(&server, &path, "two", "", &with(3, "i:1")).await;
    assert_eq!(code, 200, "agreeing on a value shares it");
    let (code, conflict) = apply(&server, &path, "two", "", &with(3, "i:2")).await;
    assert_eq!((code, conflict["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(conflict["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let (code, forced) = apply(&server, &path, "two", "&force=true", &with(3, "i:2")).await;
    let container = &forced["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((code, container["image"].as_str()), (200, Some("i:2")));
    assert_eq!(container["env"][0]["name"], "X", "what others set stays");

    let mut less = with(3, "i:2");
    less["spec"].as_object_mut().unwrap().remove("replicas");
    let (_, removed) = apply(&server, &path, "two", "", &less).await;
    assert_eq!(removed["spec"]["replicas"], 1, "given up, so it is the default again");
}

#[tokio::test]
async fn apply_needs_a_manager_and_the_right_object() {
    let server = common::start().await;
    let path = format!("{MAPS}/a");
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let kind = "application/apply-patch+yaml";
    let (code, _) = server.send("PATCH", &path, kind, &body.to_string()).await;
    assert_eq!(code, 422);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: \"1\"\n";
    let (code, made) = server.send("PATCH", &format!("{path}?fieldManager=m"), kind, yaml).await;
    assert_eq!((code, made["data"]["x"].as_str()), (201, Some("1")));
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    assert_eq!(apply(&server, &path, "m", "", &other).await.0, 400);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    assert_eq!(apply(&server, &path, "m", "", &secret).await.0, 400);
    let (code, _) =
        server.patch(&format!("{path}?force=true"), "merge-patch+json", &json!({})).await;
    assert_eq!(code, 422, "force is for apply");
}

#[tokio::test]
async fn every_write_says_who_manages_what() {
    let server = common::start().await;
    server
        .post(
            &format!("{MAPS}?fieldManager=maker"),
            &json!({"metadata": {"name": "a"}, "data": {"x": "1"}}),
        )
        .await;
    let path = format!("{MAPS}/a?fieldManager=changer");
    let (_, object) = server.patch(&path, "merge-patch+json", &json!({"data": {"y": "2"}})).await;
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    let fields = |name: &str| {
        let entry = managers.iter().find(|entry| entry["manager"] == name).unwrap();
        entry["fieldsV1"]["f:data"].clone()
    };
    assert_eq!(managers.len(), 2);
    assert_eq!(fields("maker"), json!({".": {}, "f:x": {}}));
    assert_eq!(fields("changer"), json!({"f:y": {}}));
}

#[tokio::test]
async fn versions_of_a_kind_show_the_same_object() {
    let server = common::start().await;
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let body = json!({"metadata": {"name": "h"}, "spec": {
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
        "maxReplicas": 5, "targetCPUUtilizationPercentage": 50}});
    let (code, created) = server.post(v1, &body).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["apiVersion"], "autoscaling/v1");
    let (_, second) = server.get(&format!("{v2}/h")).await;
    assert_eq!(second["apiVersion"], "autoscaling/v2");
    assert_eq!(second["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let (_, list) = server.get(v1).await;
    assert_eq!(list["items"][0]["spec"]["targetCPUUtilizationPercentage"], 50);
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 70}});
    let (code, patched) = server.patch(&format!("{v1}/h"), "merge-patch+json", &patch).await;
    assert_eq!((code, &patched["spec"]["targetCPUUtilizationPercentage"]), (200, &json!(70)));

    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default", "name": "x", "kind": "Pod"},
        "reason": "R", "message": "m", "type": "Normal"});
    let (code, made) = server.post("/api/v1/namespaces/default/events", &event).await;
    assert_eq!(code, 201, "{made}");
    let (_, other) = server.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await;
    assert_eq!((&other["note"], &other["regarding"]["name"]), (&json!("m"), &json!("x")));
}
