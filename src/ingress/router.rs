//! Which backend serves a request, as the Ingress API says.
//!
//! The rules of the request's own host come first, then those of its wildcard, then those without
//! a host. Within a host the longest matching path wins, and an exact one before a prefix. What no
//! rule matches goes to the default backend of an Ingress that has rules for the host, else to that
//! of any Ingress. Where two Ingresses say the same, the older one holds.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Backend, Ingress, PathKind, PortRef};
use crate::path::wildcard_of;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `namespace/name` of the service.
    pub(crate) service: Arc<str>,
    pub(crate) port: PortRef,
}

/// All rules, by host and path: a lookup costs one hash per path element, whatever their number.
#[derive(Debug, Default)]
pub(crate) struct Router {
    ingresses: HashMap<Arc<str>, Entry>,
    hosts: HashMap<Box<str>, Host>,
    defaults: Choice,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    ingress: Ingress,
}

#[derive(Debug, Default)]
struct Host {
    exact: HashMap<Box<str>, Choice>,
    /// By path without its final slash.
    prefix: HashMap<Box<str>, Choice>,
    default: Choice,
}

impl Host {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_empty() && self.default.0.is_empty()
    }

    fn paths(&mut self, kind: PathKind) -> &mut HashMap<Box<str>, Choice> {
        match kind {
            PathKind::Exact => &mut self.exact,
            PathKind::Prefix => &mut self.prefix,
        }
    }

    fn find(&self, path: &str) -> Option<&Target> {
        if let Some(choice) = self.exact.get(path) {
            return choice.first();
        }
        let mut rest = path.strip_suffix('/').unwrap_or(path);
        loop {
            if let Some(choice) = self.prefix.get(rest) {
                return choice.first();
            }
            rest = &rest[..rest.rfind('/')?];
        }
    }
}

/// What several Ingresses want at the same place, the one that holds first.
#[derive(Debug, Default)]
struct Choice(Vec<(Rank, Target)>);

/// Ascending: default backends of Ingresses without rules, then the older, then by name.
type Rank = (bool, i64, Arc<str>);

impl Choice {
    fn first(&self) -> Option<&Target> {
        self.0.first().map(|(_, target)| target)
    }

    fn insert(&mut self, rank: &Rank, target: &Target) {
        let at = self.0.partition_point(|(other, _)| other <= rank);
        self.0.insert(at, (rank.clone(), target.clone()));
    }

    /// Whether nothing is left.
    fn remove(&mut self, key: &str) -> bool {
        self.0.retain(|(rank, _)| &*rank.2 != key);
        self.0.is_empty()
    }
}

impl Router {
    /// Begins a full transfer: what is not repeated before [`Router::synced`] will be dropped.
    pub(crate) fn begin(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Ends a full transfer.
    pub(crate) fn synced(&mut self) {
        let stale = |(_, entry): &(&Arc<str>, &Entry)| entry.generation != self.generation;
        let stale: Vec<Arc<str>> =
            self.ingresses.iter().filter(stale).map(|(key, _)| key.clone()).collect();
        for key in stale {
            self.remove(&key);
        }
    }

    pub(crate) fn upsert(&mut self, ingress: Ingress) {
        let key = crate::model::key(&ingress.namespace, &ingress.name);
        if let Some(entry) = self.ingresses.get_mut(key.as_str()) {
            entry.generation = self.generation;
            if entry.ingress == ingress {
                return;
            }
            self.remove(&key);
        }
        let key: Arc<str> = key.into();
        let target = |backend: &Backend| Target {
            service: crate::model::key(&ingress.namespace, &backend.service).into(),
            port: backend.port.clone(),
        };
        let rank = (false, ingress.created, key.clone());
        let default = ingress.default_backend.as_ref().map(target);
        for rule in &ingress.rules {
            let host = self.hosts.entry(rule.host.as_str().into()).or_default();
            for path in &rule.paths {
                let choices = host.paths(path.kind);
                let path_key = path_key(path.kind, &path.path);
                choices.entry(path_key.into()).or_default().insert(&rank, &target(&path.backend));
            }
            if let Some(default) = &default {
                host.default.insert(&rank, default);
            }
        }
        if let Some(default) = &default {
            let rank = (!ingress.rules.is_empty(), ingress.created, key.clone());
            self.defaults.insert(&rank, default);
        }
        self.ingresses.insert(key, Entry { generation: self.generation, ingress });
    }

    pub(crate) fn remove(&mut self, key: &str) {
        let Some(Entry { ingress, .. }) = self.ingresses.remove(key) else { return };
        for rule in &ingress.rules {
            let Some(host) = self.hosts.get_mut(rule.host.as_str()) else { continue };
            for path in &rule.paths {
                let choices = host.paths(path.kind);
                let path_key = path_key(path.kind, &path.path);
                if choices.get_mut(path_key).is_some_and(|choice| choice.remove(key)) {
                    choices.remove(path_key);
                }
            }
            host.default.remove(key);
            if host.is_empty() {
                self.hosts.remove(rule.host.as_str());
            }
        }
        self.defaults.remove(key);
    }

    /// Where a request goes. The host is in lower case without a port, the path without a query.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Target> {
        let wildcard = wildcard_of(host).and_then(|wildcard| self.hosts.get(wildcard.as_str()));
        let own = if host.is_empty() { None } else { self.hosts.get(host) };
        let levels = [own, wildcard, self.hosts.get("")];
        let levels = || levels.into_iter().flatten();
        levels()
            .find_map(|host| host.find(path))
            .or_else(|| levels().find_map(|host| host.default.first()))
            .or_else(|| self.defaults.first())
    }
}

/// A trailing slash of a prefix is of no meaning.
fn path_key(kind: PathKind, path: &str) -> &str {
    match kind {
        PathKind::Exact => path,
        PathKind::Prefix => path.strip_suffix('/').unwrap_or(path),
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
