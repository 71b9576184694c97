//! Requests a second: what clients that write and read small objects get out of the API.

use crate::{
    http::{Connection, Request},
    knarr::Knarr,
    load::{Load, all_of, closed_loop, percentile},
    report::{Goal, Row},
    target::{Target, namespaced},
};

/// Objects that are read.
const SEED: usize = 1_000;

/// Loads Knarr, then the other cluster, with the same.
pub fn measure(beside: Option<&Target>) -> Vec<Row> {
    let knarr = Knarr::start();
    let ours = figures(&knarr.target);
    drop(knarr);
    let theirs = beside.map(|target| {
        let theirs = figures(target);
        target.clear("configmaps");
        theirs
    });
    let figure = |at: usize| theirs.as_ref().map(|theirs| &theirs[at].1);
    let mut rows = Vec::new();
    for (at, (what, load)) in ours.iter().enumerate() {
        let goal = GOALS.iter().find(|(name, _)| name == what).map(|(_, goal)| *goal);
        let goal = goal.map_or(Goal::More, Goal::AtLeast);
        let other = figure(at);
        rows.push(Row::new(*what, "/s", goal, load.rate).beside(other.map(|load| load.rate)));
        let p99 = |load: &Load| percentile(&load.times, 0.99).as_secs_f64() * 1000.0;
        let row = Row::new(format!("{what}: p99"), "ms", Goal::Less, p99(load));
        rows.push(row.beside(other.map(p99)));
    }
    rows
}

/// What is promised.
const GOALS: &[(&str, f64)] = &[
    ("creates, 1 client, durable", 1_000.0),
    ("creates, 64 clients, durable", 5_000.0),
    ("gets, 16 clients", 20_000.0),
    ("server-side applies, 16 clients", 5_000.0),
];

fn figures(target: &Target) -> Vec<(&'static str, Load)> {
    target.make_namespace();
    let maps = namespaced("configmaps");
    let creates = |clients: usize| {
        closed_loop(target, clients, |connection, client, count| {
            create(connection, &maps, &format!("c{clients}-{client}-{count}"));
        })
    };
    let mut figures = vec![
        ("creates, 1 client, durable", creates(1)),
        ("creates, 16 clients, durable", creates(16)),
        ("creates, 64 clients, durable", creates(64)),
    ];
    all_of(target, 16, SEED, |connection, at| create(connection, &maps, &format!("seed-{at}")));
    let paths: Vec<String> = (0..SEED).map(|at| format!("{maps}/seed-{at}")).collect();
    let gets = closed_loop(target, 16, |connection, client, count| {
        let path = &paths[(client * 61 + count) % SEED];
        expect(connection, Request::new("GET", path), 200);
    });
    figures.push(("gets, 16 clients", gets));
    let patches = closed_loop(target, 16, |connection, client, count| {
        let body = format!(r#"{{"data":{{"key":"{count}"}}}}"#);
        let request = Request::new("PATCH", &paths[client]).with(body.as_bytes());
        let content_type = "application/merge-patch+json";
        expect(connection, Request { content_type, ..request }, 200);
    });
    figures.push(("merge patches, 16 clients", patches));
    let applies = closed_loop(target, 16, |connection, client, count| {
        let name = format!("applied-{client}");
        let path = format!("{maps}/{name}?fieldManager=bench&force=true");
        let body = map(&name, &count.to_string());
        let request = Request::new("PATCH", &path).with(body.as_bytes());
        let content_type = "application/apply-patch+yaml";
        let status = connection.exchange(Request { content_type, ..request }, |_| ()).unwrap();
        assert!(matches!(status, 200 | 201), "{path}: {status}");
    });
    figures.push(("server-side applies, 16 clients", applies));
    figures
}

fn create(connection: &mut Connection, maps: &str, name: &str) {
    let body = map(name, "a value that is as long as what one finds in a small configuration file");
    expect(connection, Request::new("POST", maps).with(body.as_bytes()), 201);
}

fn map(name: &str, value: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"key":"{value}"}}}}"#
    )
}

fn expect(connection: &mut Connection, request: Request<'_>, wanted: u16) {
    let status = connection.exchange(request, |_| ()).unwrap();
    assert_eq!(status, wanted, "{} {}", request.method, request.path);
}
