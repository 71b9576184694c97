//! Aggregation: groups and versions that other API servers serve, registered as APIServices.
//!
//! A request for one is authenticated and authorized here and passed on with the user's name in
//! headers that only the front proxy's certificate vouches for.

pub mod controller;
pub mod registration;

use std::sync::Arc;

use apimachinery::Status;
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts};
use serde_json::Value;

use crate::{
    Shared,
    http::{body::Response, client::Target, decode::Payload, router::text},
    proxy::{forward, service::endpoint},
    request::UserInfo,
};

/// A group and version that another server serves.
pub struct Remote {
    /// Name of the APIService.
    pub name: String,
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    namespace: String,
    service: String,
    port: String,
    tls: Arc<rustls::ClientConfig>,
    /// Whether it answered when it was last asked.
    pub available: bool,
    /// Its resources, as it said then (APIResourceList).
    pub resources: Value,
}

impl Remote {
    /// Where a request of this path goes.
    ///
    /// # Errors
    /// 503 when nothing is behind the Service.
    fn target(&self, server: &Shared, path: &str) -> Result<Target, Status> {
        let (host, port) = endpoint(server, &self.namespace, &self.service, &self.port, false)?;
        Ok(Target {
            host,
            port,
            name: Some(format!("{}.{}.svc", self.service, self.namespace)),
            tls: Some(self.tls.clone()),
            path: path.to_owned(),
        })
    }
}

/// The remote groups and versions of a server.
#[derive(Default)]
pub struct Aggregator {
    remotes: ArcSwap<Vec<Arc<Remote>>>,
}

impl Aggregator {
    /// All of them.
    pub fn remotes(&self) -> Arc<Vec<Arc<Remote>>> {
        self.remotes.load_full()
    }

    /// The one that serves `path`.
    pub fn find(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        let mut steps = path.trim_start_matches('/').split('/');
        if steps.next() != Some("apis") {
            return None;
        }
        let (group, version) = (steps.next()?, steps.next()?);
        let found = remotes.iter().find(|r| r.group == group && r.version == version);
        found.cloned()
    }
}

/// Who asks, in the headers that a front proxy sets.
fn identity(user: &UserInfo) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("x-remote-extra-{}", escape(key)), value);
        }
    }
    headers
}

/// A key as it can stand in a header's name.
fn escape(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Passes a request on.
///
/// # Errors
/// 503 when the other server cannot be reached.
pub async fn answer(
    server: &Shared,
    remote: &Remote,
    user: &UserInfo,
    parts: &mut Parts,
    body: Payload,
) -> Result<Response, Status> {
    if !remote.available {
        return Ok(text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n".to_owned()));
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let target = remote.target(server, &path)?;
    let headers = parts.headers.clone();
    forward::send(server, &headers, parts, body, target, identity(user)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extras_travel_in_headers() {
        let mut user = UserInfo::component("me", &["one", "two"]);
        user.extra.insert("example.com/scopes".into(), vec!["a".into(), "b".into()]);
        user.extra.insert("bad\nvalue".into(), vec!["x\ny".into()]);
        let headers = identity(&user);
        assert_eq!(headers["x-remote-user"], "me");
        assert_eq!(headers.get_all("x-remote-group").iter().count(), 3);
        assert_eq!(headers.get_all("x-remote-extra-example.com%2fscopes").iter().count(), 2);
        assert!(!headers.keys().any(|name| name.as_str().contains("value")));
    }
}
