//! Conversion webhooks, asked for real over TLS.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use std::{convert::Infallible, time::Duration};

use apimachinery::GroupVersionResource;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use client::{Transport as _, WatchItem, WatchRequest};
use futures::StreamExt as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// `spec.host` of v1 is `spec.address.host` of v2.
fn convert(mut object: Value, to: &str) -> Value {
    if to.ends_with("/v2") {
        if let Some(host) = object["spec"]["host"].as_str().map(ToOwned::to_owned) {
            object["spec"] = json!({"address": {"host": host}});
        }
    } else if let Some(host) = object["spec"]["address"]["host"].as_str().map(ToOwned::to_owned) {
        object["spec"] = json!({"host": host});
    }
    object["apiVersion"] = json!(to);
    object
}

async fn answer(
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let refused = objects.iter().any(|object| object["metadata"]["name"] == "poison");
    let result = match refused {
        true => json!({"status": "Failure", "message": "poison"}),
        false => json!({"status": "Success"}),
    };
    let converted: Vec<Value> = objects.iter().map(|o| convert(o.clone(), to)).collect();
    let answer = json!({"kind": "ConversionReview", "apiVersion": review["apiVersion"],
        "response": {"uid": request["uid"], "convertedObjects": converted, "result": result}});
    Ok(http::Response::new(Full::from(answer.to_string())))
}

/// Starts the webhook and returns its `clientConfig`.
async fn webhook(server: &common::Server) -> Value {
    let address = server.neighbour("127.0.0.1", answer).await;
    let authority = STANDARD.encode(server.pki().authority.pem());
    json!({"url": format!("https://{address}/convert"), "caBundle": authority})
}

async fn define(server: &common::Server) {
    let text = json!({"type": "object", "properties": {"host": {"type": "string"}}});
    let schema =
        |spec: &Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let nested = json!({"type": "object", "properties": {"address": text}});
    let select = |path: &str| json!([{"jsonPath": path}]);
    let config = webhook(server).await;
    let definition = json!({
        "metadata": {"name": "hosts.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "hosts", "kind": "Host"},
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": config, "conversionReviewVersions": ["v1"]}},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema(&text),
                    "selectableFields": select(".spec.host")},
                {"name": "v2", "served": true, "storage": false, "schema": schema(&nested),
                    "selectableFields": select(".spec.address.host")}]},
    });
    let (code, made) = server.post(DEFINITIONS, &definition).await;
    assert_eq!(code, 201, "{made}");
    for _ in 0..1000 {
        if server.get(&path("v2")).await.0 == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never served");
}

fn path(version: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/default/hosts")
}

#[tokio::test]
async fn every_verb_converts() {
    let server = common::start().await;
    define(&server).await;
    let (code, made) = server
        .post(
            &path("v1"),
            &json!({"metadata": {"name": "a"}, "kind": "Host",
            "apiVersion": "example.com/v1", "spec": {"host": "one"}}),
        )
        .await;
    assert_eq!(code, 201, "{made}");
    let (_, read) = server.get(&format!("{}/a", path("v2"))).await;
    assert_eq!(
        (&read["apiVersion"], &read["spec"]),
        (&json!("example.com/v2"), &json!({"address": {"host": "one"}}))
    );
    assert_eq!(read["metadata"]["uid"], made["metadata"]["uid"]);

    let second = json!({"metadata": {"name": "b"}, "kind": "Host", "apiVersion": "example.com/v2",
        "spec": {"address": {"host": "two"}}});
    let (code, made) = server.post(&path("v2"), &second).await;
    assert_eq!((code, &made["spec"]["address"]["host"]), (201, &json!("two")), "{made}");
    let (_, stored) = server.get(&format!("{}/b", path("v1"))).await;
    assert_eq!(stored["spec"], json!({"host": "two"}));
    let (_, list) = server.get(&path("v2")).await;
    let hosts: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|i| &i["spec"]["address"]["host"]).collect();
    assert_eq!(hosts, ["one", "two"]);
    let patch = json!({"spec": {"address": {"host": "three"}}});
    let (code, patched) =
        server.patch(&format!("{}/a", path("v2")), "merge-patch+json", &patch).await;
    assert_eq!((code, &patched["spec"]["address"]["host"]), (200, &json!("three")), "{patched}");
    let (_, stored) = server.get(&format!("{}/a", path("v1"))).await;
    assert_eq!(stored["spec"], json!({"host": "three"}));
}

/// A version's fields are those of the object as that version shows it.
#[tokio::test]
async fn lists_and_watches_select_by_the_fields_of_their_version() {
    let server = common::start().await;
    define(&server).await;
    for (name, host) in [("a", "one"), ("b", "two")] {
        let object = json!({"metadata": {"name": name}, "kind": "Host",
            "apiVersion": "example.com/v1", "spec": {"host": host}});
        assert_eq!(server.post(&path("v1"), &object).await.0, 201);
    }
    let names = async |version: &str, selector: &str| {
        let (code, list) = server.get(&format!("{}?fieldSelector={selector}", path(version))).await;
        assert_eq!(code, 200, "{list}");
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("v1", "spec.host=one").await, ["a"]);
    assert_eq!(names("v2", "spec.address.host=one").await, ["a"]);
    assert_eq!(names("v2", "spec.address.host!=one").await, ["b"]);
    let (code, _) = server.get(&format!("{}?fieldSelector=spec.host=one", path("v2"))).await;
    assert_eq!(code, 400);

    let request = WatchRequest {
        resource: GroupVersionResource::new("example.com", "v2", "hosts"),
        namespace: Some("default".to_owned()),
        labels: None,
        fields: Some("spec.address.host=one".to_owned()),
        since: None,
    };
    let mut watch = server.admin().watch(request).await.unwrap();
    let WatchItem::Put(first) = watch.next().await.unwrap().unwrap() else { panic!("no object") };
    assert_eq!(first.value().unwrap()["spec"], json!({"address": {"host": "one"}}));
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchItem::Synced(_)));
    for (name, host) in [("b", "one"), ("a", "other")] {
        let patch = json!({"spec": {"host": host}});
        let path = format!("{}/{name}", path("v1"));
        assert_eq!(server.patch(&path, "merge-patch+json", &patch).await.0, 200);
    }
    // One comes into the selection, one leaves it as it was last.
    let WatchItem::Put(came) = watch.next().await.unwrap().unwrap() else { panic!("not there") };
    assert_eq!(&*came.key.name, "b");
    let WatchItem::Delete(left) = watch.next().await.unwrap().unwrap() else { panic!("not gone") };
    assert_eq!(&*left.key.name, "a");
    assert_eq!(left.value().unwrap()["spec"], json!({"address": {"host": "one"}}));
    assert_eq!(left.value().unwrap()["apiVersion"], "example.com/v2");

    let (code, _) = server
        .delete(&format!("{}?fieldSelector=spec.address.host=other", path("v2")), &Value::Null)
        .await;
    assert_eq!((code, names("v1", "").await), (200, vec!["b".to_owned()]));
}

#[tokio::test]
async fn a_refusal_is_told() {
    let server = common::start().await;
    define(&server).await;
    server
        .post(
            &path("v1"),
            &json!({"metadata": {"name": "poison"}, "kind": "Host",
        "apiVersion": "example.com/v1", "spec": {}}),
        )
        .await;
    let (code, status) = server.get(&format!("{}/poison", path("v2"))).await;
    assert_eq!(code, 500);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("conversion webhook for example.com/Host failed: poison"),
        "{message}"
    );
    assert_eq!(server.get(&format!("{}/poison", path("v1"))).await.0, 200);
}
