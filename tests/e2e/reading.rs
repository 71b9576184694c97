//! Lists and watches: what a reader may rely on.

use serde_json::Value;

use crate::support::{Cluster, Shared, Space};

static SHARED: Shared = Shared::control_plane();

/// Makes config maps `m00`, `m01`, ….
fn maps(space: &Space, range: std::ops::Range<u32>) {
    let items: Vec<Value> = range
        .map(|n| {
            serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("m{n:02}"), "labels": {"half": (n % 2).to_string()}},
            })
        })
        .collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    space.kubectl_with(&["create", "-f", "-"], &list.to_string()).stdout();
}

fn list(space: &Space, query: &str) -> Value {
    let (code, body) = space.request("GET", &format!("/configmaps{query}"), &[]);
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The events of a watch that the server ends: type, and the object.
fn events(body: &str) -> Vec<(String, Value)> {
    body.lines()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            (event["type"].as_str().unwrap().to_owned(), event["object"].take())
        })
        .collect()
}

#[test]
fn the_pages_of_a_list_are_of_one_moment_whatever_is_written_meanwhile() {
    let space = SHARED.space("pages");
    maps(&space, 0..9);
    let whole = names(&list(&space, ""));
    let mut page = list(&space, "?limit=4");
    let revision = page["metadata"]["resourceVersion"].clone();
    let remaining = page["metadata"]["remainingItemCount"].as_u64();
    assert_eq!(remaining, Some(whole.len() as u64 - 4));
    space.kubectl(&["delete", "configmap", "m07"]).stdout();
    space.kubectl(&["label", "configmap", "m08", "late=yes"]).stdout();
    maps(&space, 20..22);
    let mut seen = names(&page);
    while let Some(token) = page["metadata"]["continue"].as_str().filter(|token| !token.is_empty())
    {
        page = list(&space, &format!("?limit=4&continue={token}"));
        assert_eq!(page["metadata"]["resourceVersion"], revision);
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item["metadata"]["labels"]["late"], Value::Null);
        }
        seen.extend(names(&page));
    }
    assert_eq!(seen, whole);
    let (code, refused) = space.request("GET", "/configmaps?limit=4&continue=nonsense", &[]);
    assert_eq!(code, 400, "{refused}");
}

#[test]
fn selectors_choose_by_labels_and_fields() {
    let space = SHARED.space("selectors");
    maps(&space, 0..4);
    let selected = |arguments: &[&str]| {
        let mut all = vec!["configmaps"];
        all.extend(arguments);
        space.names(&all)
    };
    assert_eq!(selected(&["-l", "half=1"]), ["m01", "m03"]);
    assert_eq!(selected(&["-l", "half in (0,2),half!=1"]), ["m00", "m02"]);
    assert_eq!(selected(&["--field-selector", "metadata.name=m02"]), ["m02"]);
    let neither = selected(&["-l", "!half"]);
    assert_eq!(neither, ["kube-root-ca.crt"]);
    let wrong = space.kubectl(&["get", "configmaps", "--field-selector", "data.x=1"]).refused();
    assert!(wrong.contains(r#""data.x" is not a known field selector"#), "{wrong}");
}

#[test]
fn a_watch_sends_what_there_is_and_says_where_that_ends() {
    let space = SHARED.space("initial-events");
    maps(&space, 0..3);
    let query = "/configmaps?watch=1&sendInitialEvents=true&allowWatchBookmarks=true\
                 &resourceVersionMatch=NotOlderThan&timeoutSeconds=1&labelSelector=half";
    let (code, body) = space.request("GET", query, &[]);
    assert_eq!(code, 200, "{body}");
    let events = events(&body);
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds[..4], ["ADDED", "ADDED", "ADDED", "BOOKMARK"]);
    let annotations = &events[3].1["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    let without = query.replace("&resourceVersionMatch=NotOlderThan", "");
    assert_eq!(space.request("GET", &without, &[]).0, 422);
}

#[test]
fn a_bookmark_moves_a_quiet_watch_past_the_writes_of_others() {
    let space = SHARED.space("bookmarks");
    let revision = list(&space, "")["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    maps(&space, 0..3);
    let query = format!(
        "/configmaps?watch=1&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={revision}\
         &fieldSelector=metadata.name=nobody"
    );
    let (code, body) = space.request("GET", &query, &[]);
    assert_eq!(code, 200, "{body}");
    let (kind, object) = events(&body).pop().expect("a bookmark before the end");
    assert_eq!(kind, "BOOKMARK");
    let number = |text: &str| text.parse::<u64>().unwrap();
    let reached = number(object["metadata"]["resourceVersion"].as_str().unwrap());
    assert!(reached >= number(&revision) + 3, "{reached} after {revision}");
}

#[test]
fn a_watch_from_before_what_the_server_remembers_is_gone() {
    let mut cluster = Cluster::control_plane();
    cluster.kubectl(&["create", "configmap", "one"]).stdout();
    let before = cluster.get(&["configmaps"]);
    assert!(before["items"].as_array().is_some_and(|items| !items.is_empty()));
    cluster.kubectl(&["create", "configmap", "two"]).stdout();
    cluster.kill_server();
    cluster.launch();
    let path = "/api/v1/configmaps?watch=1&timeoutSeconds=1&resourceVersion=1";
    let (code, body) = cluster.request("GET", path, &[]);
    // As an answer or as the only event: clients take both.
    let status = match code {
        200 => events(&body).swap_remove(0).1,
        _ => serde_json::from_str(&body).unwrap(),
    };
    let told = (&status["code"], &status["reason"]);
    assert_eq!(told, (&410.into(), &"Expired".into()), "{body}");
}
