//! Input that no client of good will sends: it is refused and nothing breaks.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn bodies_that_are_no_objects_are_400() {
    let server = common::start().await;
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let arrays = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let bodies: Vec<String> = vec![
        String::new(),
        "null".into(),
        "[]".into(),
        "1".into(),
        "\"x\"".into(),
        "{".into(),
        "{\"metadata\":1}".into(),
        "{\"metadata\":{\"name\":1}}".into(),
        "{\"metadata\":{\"name\":\"a\",\"labels\":[]}}".into(),
        "{\"metadata\":{\"name\":\"a\"},\"data\":{\"a\":{}}}".into(),
        deep,
        arrays,
        "{\"a\":1e999999}".into(),
        "\u{feff}{}".into(),
        "{\"\\ud800\":1}".into(),
    ];
    for body in &bodies {
        for kind in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
        {
            let (code, _) = server.send("POST", MAPS, kind, body).await;
            let shown = &body[..body.len().min(40)];
            assert!(code == 400 || code == 422, "{kind} {shown}: {code}");
            let path = format!("{MAPS}/kept");
            let (code, _) = server.send("PUT", &path, kind, body).await;
            assert!(code == 400 || code == 422, "{kind} {shown}: {code}");
            // No body is a deletion without options: of nothing, here.
            let (code, _) = server.send("DELETE", &format!("{MAPS}/none"), kind, body).await;
            assert!(matches!(code, 400 | 404 | 422), "{kind} {shown}: {code}");
        }
        for (path, sub) in [
            ("pods/p", "eviction"),
            ("pods/p", "binding"),
            ("serviceaccounts/none", "token"),
            ("deployments/d", "scale"),
        ] {
            let root = if sub == "scale" { "apis/apps/v1" } else { "api/v1" };
            let path = format!("/{root}/namespaces/default/{path}/{sub}");
            for method in ["POST", "PUT", "PATCH"] {
                let (code, answer) = server.send(method, &path, "application/json", body).await;
                assert!((400..500).contains(&code), "{method} {path}: {code} {answer}");
            }
        }
        for kind in [
            "json-patch+json",
            "merge-patch+json",
            "strategic-merge-patch+json",
            "apply-patch+yaml",
        ] {
            let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication\
                        ?fieldManager=m";
            let (code, answer) =
                server.send("PATCH", path, &format!("application/{kind}"), body).await;
            let shown = &body[..body.len().min(40)];
            assert!(code < 500 || answer["reason"] != "InternalError", "{kind} {shown}: {answer}");
        }
    }
    assert_eq!(server.post(MAPS, &json!({"metadata": {"name": "fine"}})).await.0, 201);
}

#[tokio::test]
async fn large_bodies_are_413() {
    let server = common::start().await;
    let body = json!({"metadata": {"name": "a"}, "data": {"a": "x".repeat(4 << 20)}});
    let (code, status) = server.post(MAPS, &body).await;
    assert_eq!((code, status["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
}

#[tokio::test]
async fn any_path_and_query_has_an_answer() {
    let server = common::start().await;
    let paths = [
        "/",
        "//",
        "/api",
        "/api/",
        "/api/v1/",
        "/api/v1//",
        "/api/v1/namespaces//pods",
        "/apis///",
        "/api/v1/namespaces/default/pods/p/exec/x/y",
        "/api/v1/watch",
        "/api/v1/watch/watch/watch",
        "/api/v1/proxy/pods",
        "/api/v1/namespaces/a/b/c/d/e/f/g",
        "/apis/apps/v1/namespaces/%2e%2e/deployments",
        "/api/v1/namespaces/%00/pods/%ff%fe",
        "/openapi/v3/../../etc/passwd",
        "/openapi/v3/apis/x/y/z",
        "/healthz/../x",
        "/livez/ping/ping",
        "/metrics",
        "/version/x",
        "/.well-known/x",
        "/api/v1/nodes/x/proxy/../../../etc",
        "/api/v1/namespaces/default/services/a:b:c:d/proxy/",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x/status",
    ];
    let queries = [
        "",
        "?",
        "?watch",
        "?watch=%zz",
        "?limit=-1",
        "?limit=99999999999999999999",
        "?continue=%00",
        "?labelSelector=%25%25",
        "?labelSelector=a%20in%20(",
        "?fieldSelector=%3D%3D%3D",
        "?resourceVersion=-1",
        "?resourceVersion=18446744073709551616",
        "?timeoutSeconds=-5&limit=x",
        "?pretty=%f0",
        "?includeObject=%00",
        "?gracePeriodSeconds=x",
        "?dryRun=%00&fieldManager=%01",
    ];
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"] {
        for path in paths {
            for query in queries {
                if matches!(method, "GET" | "HEAD") && query.starts_with("?watch") {
                    continue;
                }
                let uri = format!("{path}{query}");
                let (code, answer) = server.send(method, &uri, "application/json", "{}").await;
                // Upstream, too, answers 500 for a get at a version that is no number.
                let known =
                    answer["message"].as_str().unwrap_or_default().starts_with("resourceVersion: ");
                assert!(
                    (200..500).contains(&code) || code == 503 || known,
                    "{method} {uri}: {code} {answer}"
                );
            }
        }
    }
}

/// Small changes of a real object must never do worse than be refused.
#[tokio::test]
async fn mutated_objects_never_break_the_server() {
    let server = common::start().await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b"}, "annotations": {"c": "d"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
            "resources": {"requests": {"cpu": "100m"}}, "env": [{"name": "A", "value": "b"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"operator": "Exists"}]},
    });
    let mut paths = Vec::new();
    collect(&pod, String::new(), &mut paths);
    let strange = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("\u{0}\u{fffd}"),
        json!([]),
        json!({}),
        json!([null]),
        json!({"": null}),
        json!("x".repeat(300)),
        json!([[[{}]]]),
    ];
    for path in &paths {
        for value in &strange {
            let mut body = pod.clone();
            *body.pointer_mut(path).unwrap() = value.clone();
            let (code, answer) =
                server.post("/api/v1/namespaces/default/pods?dryRun=All", &body).await;
            assert!(matches!(code, 201 | 400 | 403 | 422), "{path} = {value}: {code} {answer}");
        }
    }
}

fn collect(value: &Value, path: String, out: &mut Vec<String>) {
    if !path.is_empty() {
        out.push(path.clone());
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| collect(v, format!("{path}/{k}"), out)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| collect(v, format!("{path}/{i}"), out));
        }
        _ => {}
    }
}
