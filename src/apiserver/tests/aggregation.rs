//! Groups and versions that another API server serves.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use std::{convert::Infallible, time::Duration};

use apimachinery::{Draft, GroupResource};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use storage::Write;

/// Serves one resource and says who asked for it.
async fn answer(
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let user = request.headers().get("x-remote-user").map(|v| v.to_str().unwrap().to_owned());
    let body = match request.uri().path() {
        "/apis/other.example.com/v1" => json!({
            "kind": "APIResourceList", "groupVersion": "other.example.com/v1", "resources": [
                {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
                    "verbs": ["get", "list"]},
                {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing",
                    "verbs": ["get"]}]}),
        path => {
            json!({"kind": "Thing", "path": path, "query": request.uri().query(), "user": user})
        }
    };
    Ok(http::Response::new(Full::from(body.to_string())))
}

/// Writes an object as it is: an endpoint on loopback would not be let in.
async fn put(server: &common::Server, group: &str, resource: &str, object: &Value) {
    let collection = server.shared.collection(group, resource).unwrap();
    let draft = Draft::new(object, collection.fields()).unwrap();
    server.shared.store.commit(&collection, Write::Create(draft)).await.unwrap();
    assert!(server.shared.resource(&GroupResource::new(group, resource)).is_some());
}

#[tokio::test]
async fn a_registered_server_is_part_of_the_api() {
    let server = common::start().await;
    let address = server.neighbour("things.default.svc", answer).await;
    let metadata = json!({"name": "things", "namespace": "default", "uid": "1"});
    put(
        &server,
        "",
        "services",
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"ports": [{"port": 443, "name": "https"}]}}),
    )
    .await;
    put(
        &server,
        "discovery.k8s.io",
        "endpointslices",
        &json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "things-1", "namespace": "default", "uid": "2",
                "labels": {"kubernetes.io/service-name": "things"}},
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
        }),
    )
    .await;
    let service = json!({
        "metadata": {"name": "v1.other.example.com"},
        "spec": {"group": "other.example.com", "version": "v1", "groupPriorityMinimum": 2000,
            "versionPriority": 10, "caBundle": STANDARD.encode(server.pki().authority.pem()),
            "service": {"name": "things", "namespace": "default"}},
    });
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let (code, made) = server.post(services, &service).await;
    assert_eq!(code, 201, "{made}");
    let path = "/apis/other.example.com/v1/namespaces/default/things/a?x=y";
    let mut thing = Value::Null;
    for _ in 0..1000 {
        let (code, answer) = server.get(path).await;
        if code == 200 {
            thing = answer;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let wanted = json!({"kind": "Thing", "user": "admin", "query": "x=y",
        "path": "/apis/other.example.com/v1/namespaces/default/things/a"});
    assert_eq!(thing, wanted);
    let (_, stored) = server.get(&format!("{services}/v1.other.example.com")).await;
    assert_eq!(stored["status"]["conditions"][0]["status"], "True", "{stored}");
    let (_, groups) = server.get("/apis").await;
    let groups = groups["groups"].as_array().unwrap();
    assert!(groups.iter().any(|group| group["name"] == "other.example.com"));
    let (_, local) = server.get(&format!("{services}/v1.apps")).await;
    assert_eq!(local["status"]["conditions"][0]["reason"], "Local");
    assert_eq!(
        server.delete(&format!("{services}/v1.other.example.com"), &Value::Null).await.0,
        200
    );
    for _ in 0..1000 {
        if server.get(path).await.0 == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still served");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let server = common::start().await;
    let service = json!({
        "metadata": {"name": "v1.none.example.com"},
        "spec": {"group": "none.example.com", "version": "v1", "groupPriorityMinimum": 2000,
            "versionPriority": 10, "insecureSkipTLSVerify": true,
            "service": {"name": "none", "namespace": "default", "port": 443}},
    });
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    assert_eq!(server.post(services, &service).await.0, 201);
    for _ in 0..1000 {
        let (_, stored) = server.get(&format!("{services}/v1.none.example.com")).await;
        let condition = &stored["status"]["conditions"][0];
        if condition.is_object() {
            assert_eq!(
                (&condition["status"], &condition["reason"]),
                (&json!("False"), &json!("ServiceNotFound"))
            );
            assert_eq!(server.get("/apis/none.example.com/v1").await.0, 503);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no condition");
}
