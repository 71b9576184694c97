//! CustomResourceDefinitions and what they define.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use std::time::Duration;

use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/example.com/v1/namespaces/default/crontabs";

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cron"], "properties": {
            "cron": {"type": "string"},
            "replicas": {"type": "integer", "minimum": 1, "default": 2},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "additionalPrinterColumns": [
                    {"name": "Cron", "type": "string", "jsonPath": ".spec.cron"}],
                "selectableFields": [{"jsonPath": ".spec.cron"}],
            }]},
    })
}

/// Waits until `path` answers with this code.
async fn until(server: &common::Server, path: &str, wanted: u16) -> Value {
    for _ in 0..1000 {
        let (code, answer) = server.get(path).await;
        if code == wanted {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{path} never answered {wanted}");
}

async fn define(server: &common::Server) {
    let (code, made) = server.post(DEFINITIONS, &definition()).await;
    assert_eq!(code, 201, "{made}");
    until(server, TABS, 200).await;
}

fn tab(name: &str, cron: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": name},
        "spec": {"cron": cron}})
}

#[tokio::test]
async fn a_definition_makes_a_resource_like_any_other() {
    let server = common::start().await;
    define(&server).await;
    let (code, made) = server.post(TABS, &tab("a", "* 1")).await;
    assert_eq!((code, &made["spec"]["replicas"]), (201, &json!(2)), "{made}");
    assert_eq!(made["metadata"]["generation"], 1);
    let mut wrong = tab("b", "* 2");
    wrong["spec"]["replicas"] = json!(0);
    let (code, refused) = server.post(TABS, &wrong).await;
    assert_eq!(code, 422);
    assert!(refused["message"].as_str().unwrap().contains("should be greater than or equal to 1"));
    let mut extra = tab("c", "* 3");
    extra["spec"]["unknown"] = json!(1);
    assert_eq!(server.post(TABS, &extra).await.1["spec"].get("unknown"), None, "pruned");

    let (_, found) = server.get(&format!("{TABS}?fieldSelector=spec.cron%3D*+3")).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert_eq!(found["items"][0]["kind"], "CronTab", "custom items say their kind");
    let status = json!({"spec": {"cron": "no"}, "status": {"replicas": 4}});
    let (_, written) = server.patch(&format!("{TABS}/a/status"), "merge-patch+json", &status).await;
    assert_eq!(
        (&written["spec"]["cron"], &written["status"]["replicas"]),
        (&json!("* 1"), &json!(4))
    );
    let scale = json!({"spec": {"replicas": 9}});
    let (_, scaled) = server.patch(&format!("{TABS}/a/scale"), "merge-patch+json", &scale).await;
    assert_eq!(
        (&scaled["spec"]["replicas"], &scaled["status"]["replicas"]),
        (&json!(9), &json!(4))
    );
    let (_, object) = server.get(&format!("{TABS}/a")).await;
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(9), &json!(2))
    );
    assert_eq!(
        server.patch(&format!("{TABS}/a"), "strategic-merge-patch+json", &scale).await.0,
        415
    );

    let (_, groups) = server.get("/apis/example.com/v1").await;
    let names: Vec<_> =
        groups["resources"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
    let (_, openapi) = server.get("/openapi/v3/apis/example.com/v1").await;
    assert!(openapi["components"]["schemas"]["com.example.v1.CronTab"].is_object());
}

#[tokio::test]
async fn a_new_default_shows_in_old_objects() {
    let server = common::start().await;
    define(&server).await;
    server.post(TABS, &tab("a", "* 1")).await;
    let path = format!("{DEFINITIONS}/crontabs.example.com");
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/late";
    let patch =
        json!([{"op": "add", "path": place, "value": {"type": "string", "default": "new"}}]);
    assert_eq!(server.patch(&path, "json-patch+json", &patch).await.0, 200);
    for _ in 0..1000 {
        let (_, object) = server.get(&format!("{TABS}/a")).await;
        if object["spec"]["late"] == "new" {
            let (_, list) = server.get(TABS).await;
            assert_eq!(list["items"][0]["spec"]["late"], "new");
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the default did not show");
}

#[tokio::test]
async fn a_definition_takes_its_objects_along() {
    let server = common::start().await;
    define(&server).await;
    let mut held = tab("held", "* 1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(TABS, &held).await;
    server.post(TABS, &tab("free", "* 1")).await;
    let path = format!("{DEFINITIONS}/crontabs.example.com");
    assert_eq!(server.delete(&path, &Value::Null).await.0, 200);
    until(&server, &format!("{TABS}/free"), 404).await;
    let (code, dying) = server.get(&path).await;
    assert_eq!((code, dying["metadata"]["deletionTimestamp"].is_string()), (200, true));
    let none = json!({"metadata": {"finalizers": null}});
    assert_eq!(server.patch(&format!("{TABS}/held"), "merge-patch+json", &none).await.0, 200);
    until(&server, &path, 404).await;
    until(&server, TABS, 404).await;
    // The same name again begins anew.
    define(&server).await;
    let (_, list) = server.get(TABS).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn names_that_are_taken_are_not_served() {
    let server = common::start().await;
    define(&server).await;
    let mut second = definition();
    second["metadata"]["name"] = json!("others.example.com");
    second["spec"]["names"] = json!({"plural": "others", "kind": "CronTab"});
    assert_eq!(server.post(DEFINITIONS, &second).await.0, 201);
    for _ in 0..1000 {
        let (_, object) = server.get(&format!("{DEFINITIONS}/others.example.com")).await;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if let Some(names) = conditions.iter().find(|c| c["type"] == "NamesAccepted") {
            assert_eq!(
                (&names["status"], &names["reason"]),
                (&json!("False"), &json!("ListKindConflict"))
            );
            assert_eq!(server.get("/apis/example.com/v1/namespaces/default/others").await.0, 404);
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no condition");
}

#[tokio::test]
async fn broken_definitions_are_refused() {
    let server = common::start().await;
    let cases: [(&str, Value, &str); 7] = [
        ("/metadata/name", json!("wrong.example.com"), "must be spec.names.plural"),
        ("/spec/group", json!("nodots"), "should be a domain with at least one dot"),
        ("/spec/scope", json!("Galaxy"), "supported values: \"Cluster\", \"Namespaced\""),
        (
            "/spec/versions/0/storage",
            json!(false),
            "must have exactly one version marked as storage",
        ),
        ("/spec/versions/0/schema", json!({}), "openAPIV3Schema: Required value"),
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/type",
            json!(""),
            "must not be empty",
        ),
        ("/spec/names/kind", json!("Cron Tab"), "may have mixed case"),
    ];
    for (path, value, message) in cases {
        let mut body = definition();
        *body.pointer_mut(path).unwrap() = value;
        let (code, refused) = server.post(DEFINITIONS, &body).await;
        assert_eq!(code, 422, "{path}: {refused}");
        assert!(refused["message"].as_str().unwrap().contains(message), "{path}: {refused}");
    }
}
