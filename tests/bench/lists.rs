//! Ten thousand stored pods: what they cost in memory, and how long lists of them take.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    http::Request,
    idle::mebibytes,
    knarr::Knarr,
    load::{all_of, percentile},
    report::{Goal, Row},
    target::{Target, namespaced},
    usage,
};

const PODS: usize = 10_000;
/// Clients that create them.
const CLIENTS: usize = 32;
/// Applications that they belong to: a selector matches one in so many.
const APPLICATIONS: usize = 100;
/// How often each list is taken.
const ROUNDS: usize = 15;
/// How long informers have to take in what was created, and memory to be given back.
const SETTLE: Duration = Duration::from_secs(10);

/// What is listed: its name, what follows the path, what is accepted.
const LISTS: &[(&str, &str, &str)] = &[
    ("LIST of 10,000 pods, JSON", "", "application/json"),
    ("the same as protobuf", "", "application/vnd.kubernetes.protobuf"),
    ("the same as Table", "", "application/json;as=Table;v=v1;g=meta.k8s.io"),
    ("a page of 500 of them", "?limit=500", "application/json"),
    ("one in 100 by label", "?labelSelector=app%3Dapplication-7", "application/json"),
];

/// Stores pods in Knarr, then in the other cluster, and lists them.
pub fn measure(beside: Option<&Target>) -> Vec<Row> {
    let knarr = Knarr::start();
    let ours = figures(&knarr.target);
    drop(knarr);
    let theirs = beside.map(|target| {
        let theirs = figures(target);
        target.clear("pods");
        theirs
    });
    let mut theirs = theirs.into_iter().flatten();
    ours.into_iter().map(|row| row.beside(theirs.next().map(|row| row.measured))).collect()
}

fn figures(target: &Target) -> Vec<Row> {
    target.make_namespace();
    let path = namespaced("pods");
    let took = all_of(target, CLIENTS, PODS, |connection, at| {
        let body = pod(at).to_string();
        let request = Request::new("POST", &path).with(body.as_bytes());
        assert_eq!(connection.exchange(request, |_| ()).unwrap(), 201);
    });
    let rate = PODS as f64 / took.as_secs_f64();
    let memory = |what, goal| {
        sleep(SETTLE);
        Row::new(what, "MiB", goal, mebibytes(usage::of(&target.pids).rss))
    };
    let mut rows = vec![
        Row::new("creates of 10,000 pods, 32 clients", "/s", Goal::More, rate),
        memory("server with 10,000 pods stored, RSS", Goal::AtMost(100.0)),
    ];
    for (what, query, accept) in LISTS {
        let (time, size) = list(target, &format!("{path}{query}"), accept);
        let goal = if *what == LISTS[0].0 { Goal::AtMost(36.0) } else { Goal::Less };
        let what = format!("{what} ({:.1} MB)", size as f64 / 1e6);
        rows.push(Row::new(what, "ms", goal, time.as_secs_f64() * 1000.0));
    }
    rows.push(memory("server after these lists, RSS", Goal::Less));
    rows
}

/// The median time of a list from the request to its last byte, and its size.
fn list(target: &Target, path: &str, accept: &str) -> (Duration, usize) {
    let mut connection = target.dial();
    let mut size = 0;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            size = 0;
            let begin = Instant::now();
            let request = Request { accept, ..Request::new("GET", path) };
            assert_eq!(connection.exchange(request, |piece| size += piece.len()).unwrap(), 200);
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    (percentile(&times, 0.5), size)
}

/// A pod of ordinary size which no scheduler takes.
fn pod(at: usize) -> Value {
    let application = format!("application-{}", at % APPLICATIONS);
    let variables: Vec<Value> = (0..3)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("the value of variable {n}")}))
        .collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10});
    let container = json!({
        "name": "main",
        "image": format!("registry.example.com/{application}:v1.2.3"),
        "env": variables,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": probe,
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/configuration"}],
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{application}-{at}"),
            "labels": {"app": application, "pod-template-hash": "5d4f8c7b9", "tier": "backend"},
            "annotations": {"example.com/checksum": "a3f5c1d2e4b60718293a4b5c6d7e8f90"},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [container],
            "volumes": [{"name": "configuration", "configMap": {"name": application}}],
        },
    })
}
