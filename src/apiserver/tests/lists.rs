//! Lists and watches: pages, selectors, revisions, bookmarks.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn fill(server: &common::Server, count: usize) {
    for at in 0..count {
        let labels = json!({"parity": if at % 2 == 0 { "even" } else { "odd" }});
        let metadata = json!({"name": format!("m{at:03}"), "labels": labels});
        assert_eq!(server.post(MAPS, &json!({ "metadata": metadata })).await.0, 201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_show_one_state() {
    let server = common::start().await;
    fill(&server, 7).await;
    let (_, first) = server.get(&format!("{MAPS}?limit=3")).await;
    assert_eq!(names(&first), ["m000", "m001", "m002"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    assert_eq!(first["items"][0].get("kind"), None, "a list says the kind once");
    let token = first["metadata"]["continue"].as_str().unwrap();
    server.delete(&format!("{MAPS}/m003"), &Value::Null).await;
    let (_, second) = server.get(&format!("{MAPS}?limit=3&continue={token}")).await;
    assert_eq!(names(&second), ["m003", "m004", "m005"], "as it was at the first page");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let (_, third) = server.get(&format!("{MAPS}?limit=3&continue={token}")).await;
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["m006"], None));
}

#[tokio::test]
async fn an_expired_page_offers_to_go_on() {
    let server = common::start().await;
    fill(&server, 4).await;
    let (_, first) = server.get(&format!("{MAPS}?limit=2")).await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    // Other paginated lists push the snapshot out.
    for _ in 0..40 {
        server
            .patch(&format!("{MAPS}/m000"), "merge-patch+json", &json!({"data": {"x": "y"}}))
            .await;
        server.patch(&format!("{MAPS}/m000"), "merge-patch+json", &json!({"data": null})).await;
        server.get(&format!("{MAPS}?limit=1")).await;
    }
    let (code, gone) = server.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((code, gone["reason"].as_str()), (410, Some("Expired")));
    let token = gone["metadata"]["continue"].as_str().unwrap();
    let (code, rest) = server.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((code, names(&rest)), (200, vec!["m002", "m003"]));
}

#[tokio::test]
async fn selectors_and_revisions_narrow_a_list() {
    let server = common::start().await;
    fill(&server, 4).await;
    let (_, odd) = server.get(&format!("{MAPS}?labelSelector=parity+in+(odd)")).await;
    assert_eq!(names(&odd), ["m001", "m003"]);
    let (_, one) = server.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm002")).await;
    assert_eq!(names(&one), ["m002"]);
    let (_, all) =
        server.get("/api/v1/configmaps?fieldSelector=metadata.namespace!%3Ddefault").await;
    assert!(!names(&all).contains(&"m000"));
    let (code, refused) = server.get(&format!("{MAPS}?fieldSelector=spec.x%3Dy")).await;
    assert_eq!(code, 400);
    assert!(refused["message"].as_str().unwrap().contains("is not a known field selector"));
    let (code, future) = server.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!((code, future["reason"].as_str()), (504, Some("Timeout")));
    let (code, old) =
        server.get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")).await;
    assert_eq!((code, old["reason"].as_str()), (410, Some("Expired")));
}

/// The events of a watch as they come.
struct Events {
    body: apiserver::http::body::Body,
    text: Vec<u8>,
}

impl Events {
    async fn open(server: &common::Server, path: &str) -> Self {
        let request = http::Request::builder().uri(path).body(Bytes::new()).unwrap();
        let response = server.admin().handle(request).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), text: Vec::new() }
    }

    /// The next event; nothing at the end of the watch.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await;
            let frame = frame.expect("an event within the time")?;
            self.text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.expect("an event");
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!(kind), &json!(name))
        );
        event
    }
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there() {
    let server = common::start().await;
    fill(&server, 2).await;
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&server, &format!("{MAPS}?{query}&labelSelector=parity")).await;
    events.expect("ADDED", "m000").await;
    events.expect("ADDED", "m001").await;
    let bookmark = events.next().await.unwrap();
    assert_eq!(
        (bookmark["type"].as_str(), bookmark["object"]["kind"].as_str()),
        (Some("BOOKMARK"), Some("ConfigMap"))
    );
    let metadata = &bookmark["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");

    let even = json!({"metadata": {"labels": {"parity": "even"}}});
    server.patch(&format!("{MAPS}/m001"), "merge-patch+json", &even).await;
    let modified = events.expect("MODIFIED", "m001").await;
    let since = modified["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    server.delete(&format!("{MAPS}/m000"), &Value::Null).await;
    events.expect("DELETED", "m000").await;

    let path = format!("{MAPS}?watch=true&resourceVersion={since}");
    let mut later = Events::open(&server, &path).await;
    later.expect("DELETED", "m000").await;
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let server = common::start().await;
    fill(&server, 1).await;
    let (_, list) = server.get(MAPS).await;
    let since = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{MAPS}?watch=true&resourceVersion={since}&labelSelector=parity%3Dodd");
    let mut events = Events::open(&server, &path).await;
    let set = |parity: &str| json!({"metadata": {"labels": {"parity": parity}}});
    let one = format!("{MAPS}/m000");
    server.patch(&one, "merge-patch+json", &set("odd")).await;
    events.expect("ADDED", "m000").await;
    let (_, left) = server.patch(&one, "merge-patch+json", &set("even")).await;
    let gone = events.expect("DELETED", "m000").await;
    let metadata = &gone["object"]["metadata"];
    assert_eq!(metadata["labels"]["parity"], "odd", "the last state that matched");
    assert_eq!(metadata["resourceVersion"], left["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_watch_ends_in_time_and_with_the_server() {
    let server = common::start().await;
    let mut short =
        Events::open(&server, &format!("{MAPS}?watch=1&timeoutSeconds=1&labelSelector=none")).await;
    assert_eq!(short.next().await, None);
    let mut long = Events::open(&server, &format!("{MAPS}?watch=1&labelSelector=none")).await;
    server.stop.cancel();
    assert_eq!(long.next().await, None);
}

#[tokio::test]
async fn tables_of_a_watch_have_their_columns_once() {
    let server = common::start().await;
    fill(&server, 2).await;
    let request = http::Request::builder()
        .uri(format!("{MAPS}?watch=1&labelSelector=parity"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Bytes::new())
        .unwrap();
    let body = server.admin().handle(request).await.into_body();
    let mut events = Events { body, text: Vec::new() };
    let (first, second) = (events.next().await.unwrap(), events.next().await.unwrap());
    assert_eq!(first["object"]["kind"], "Table");
    assert!(first["object"]["columnDefinitions"].is_array());
    assert!(second["object"]["columnDefinitions"].is_null());
    assert_eq!(second["object"]["rows"][0]["cells"][0], "m001");
    assert_eq!(second["object"]["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}
