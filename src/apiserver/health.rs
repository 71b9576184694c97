//! `/healthz`, `/livez` and `/readyz`, with `verbose`, `exclude` and single checks.

use std::fmt::Write;

use http::StatusCode;

use crate::{
    Shared,
    http::{
        body::Response,
        query::Query,
        router::{not_found, text},
    },
};

/// A check by name.
type Check = (&'static str, fn(&Shared) -> bool);

/// Upstream's names where the thing exists here: monitors ask for single ones.
const CHECKS: &[Check] = &[
    ("ping", |_| true),
    ("log", |_| true),
    ("etcd", |server| server.store.revision() > 0),
    ("poststarthook/start-apiextensions-controllers", |_| true),
    ("poststarthook/rbac/bootstrap-roles", |server| server.is_ready()),
    ("poststarthook/bootstrap-controller", |server| server.is_ready()),
];

/// Checks of `/readyz` beyond those.
const READY: &[Check] = &[
    ("informer-sync", |server| server.is_ready()),
    ("shutdown", |server| !server.stop.is_cancelled()),
];

/// Answers a health request. `path` has no trailing slash.
pub fn answer(server: &Shared, path: &str, query: &Query<'_>) -> Response {
    let path = path.trim_start_matches('/');
    let (name, single) = path.split_once('/').unwrap_or((path, ""));
    let ready: &[Check] = if name == "readyz" { READY } else { &[] };
    let mut checks = CHECKS.iter().chain(ready);
    if !single.is_empty() {
        let Some((name, check)) = checks.find(|(known, _)| *known == single) else {
            return not_found();
        };
        return match check(server) {
            true => text(StatusCode::OK, "ok".to_owned()),
            false => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {name} failed\n"),
            ),
        };
    }
    let mut report = String::new();
    let mut failed = Vec::new();
    for (name, check) in checks {
        let _ = if query.all("exclude").any(|excluded| excluded == *name) {
            writeln!(report, "[+]{name} excluded: ok")
        } else if check(server) {
            writeln!(report, "[+]{name} ok")
        } else {
            failed.push(*name);
            writeln!(report, "[-]{name} failed: reason withheld")
        };
    }
    if !failed.is_empty() {
        let report = format!("{report}{name} check failed\n");
        return text(StatusCode::INTERNAL_SERVER_ERROR, report);
    }
    if query.get("verbose").is_some() {
        return text(StatusCode::OK, format!("{report}{name} check passed\n"));
    }
    text(StatusCode::OK, "ok".to_owned())
}
