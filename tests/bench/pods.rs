//! Pods on a node: how soon they run and are gone, and what each costs.

use std::{
    collections::HashSet,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    http::{Connection, Request},
    idle::mebibytes,
    knarr::Knarr,
    load::{all_of, percentile},
    report::{Goal, Row},
    target::{Target, namespaced},
    usage,
    watch::{Event, Watch},
};

/// Pods that are made one after another.
const ONE_BY_ONE: usize = 30;
/// Pods that are made at once.
const AT_ONCE: usize = 50;
/// How long a process has to be ready to be told to stop.
const TRAP: Duration = Duration::from_millis(200);
/// Clients that make those.
const CLIENTS: usize = 8;

/// The promises, in the order of what `figures` returns.
const ROWS: [(&str, &str, Goal); 5] = [
    ("pod created to Running, image present, p50", "ms", Goal::AtMost(80.0)),
    ("pod created to Running, image present, p99", "ms", Goal::AtMost(200.0)),
    ("pod deleted to gone, p50", "ms", Goal::AtMost(60.0)),
    ("pod deleted to gone, p99", "ms", Goal::Less),
    ("50 pods at once, all Running", "s", Goal::AtMost(1.5)),
];

/// Makes and deletes pods on Knarr, then on the other cluster if it has a node.
pub fn measure(beside: Option<&Target>) -> Vec<Row> {
    let knarr = Knarr::start();
    let ours = figures(&knarr.target);
    let shims = usage::shims(knarr.cluster.folder());
    assert_eq!(shims.len(), AT_ONCE, "shims");
    let shim = shims.iter().map(|pid| usage::pss(*pid)).sum::<u64>() as f64 / shims.len() as f64;
    let server = usage::of(&knarr.target.pids).rss;
    drop(knarr);
    let theirs = beside.filter(|target| target.image.is_some()).map(|target| {
        let theirs = figures(target);
        target.clear("pods");
        theirs
    });
    let mut rows: Vec<Row> = (0..ROWS.len())
        .map(|at| {
            let (what, unit, goal) = ROWS[at];
            Row::new(what, unit, goal, ours[at]).beside(theirs.map(|theirs| theirs[at]))
        })
        .collect();
    rows.push(Row::new(
        "memory per pod beyond the workload (shim, PSS)",
        "MiB",
        Goal::AtMost(0.5),
        shim / 1024.0,
    ));
    rows.push(Row::new("server with 50 pods running, RSS", "MiB", Goal::Less, mebibytes(server)));
    rows
}

fn figures(target: &Target) -> [f64; 5] {
    target.make_namespace();
    let image = target.image.as_deref().unwrap();
    let path = namespaced("pods");
    let mut connection = target.dial();
    let watch = Watch::from_now(target, &path);
    let (mut started, mut gone) = (Vec::new(), Vec::new());
    for at in 0..ONE_BY_ONE {
        let name = format!("one-{at}");
        let begin = Instant::now();
        create(&mut connection, &path, &name, image);
        let event = watch.until("the pod to run", |event| event.name() == name && runs(event));
        started.push(event.at - begin);
        // Before its shell has set the trap the process would be deaf to SIGTERM.
        sleep(TRAP);

        let pod = format!("{path}/{name}?gracePeriodSeconds=1");
        let begin = Instant::now();
        assert_eq!(connection.exchange(Request::new("DELETE", &pod), |_| ()).unwrap(), 200);
        let deleted = |event: &Event| event.name() == name && event.kind == "DELETED";
        gone.push(watch.until("the pod to be gone", deleted).at - begin);
    }
    started.sort_unstable();
    gone.sort_unstable();

    let begin = Instant::now();
    all_of(target, CLIENTS, AT_ONCE, |connection, at| {
        create(connection, &path, &format!("many-{at}"), image);
    });
    let mut running = HashSet::new();
    let mut last = begin;
    while running.len() < AT_ONCE {
        let event = watch.until("all pods to run", runs);
        if running.insert(event.name().to_owned()) {
            last = event.at;
        }
    }
    let milliseconds = |times: &[Duration], share| percentile(times, share).as_secs_f64() * 1000.0;
    [
        milliseconds(&started, 0.5),
        milliseconds(&started, 0.99),
        milliseconds(&gone, 0.5),
        milliseconds(&gone, 0.99),
        (last - begin).as_secs_f64(),
    ]
}

fn runs(event: &Event) -> bool {
    event.object["status"]["phase"] == "Running"
}

fn create(connection: &mut Connection, path: &str, name: &str, image: &str) {
    let body = pod(name, image).to_string();
    let request = Request::new("POST", path).with(body.as_bytes());
    assert_eq!(connection.exchange(request, |_| ()).unwrap(), 201);
}

/// A pod whose process stops when it is told to.
fn pod(name: &str, image: &str) -> Value {
    let container = json!({
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    })
}
