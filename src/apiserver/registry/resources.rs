//! Which resources there are: looked up by every request, replaced as a whole when a custom
//! resource comes, changes or goes.

use std::{collections::HashMap, sync::Arc};

use apimachinery::GroupResource;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::registry::resource::{Endpoint, Resource};

/// Endpoints by group, version and plural.
type Paths = HashMap<Arc<str>, HashMap<Arc<str>, HashMap<Arc<str>, Endpoint>>>;

/// The resources of a server.
#[derive(Default)]
pub struct Resources {
    table: ArcSwap<Table>,
    changes: watch::Sender<u64>,
}

/// The resources at one moment.
#[derive(Default)]
pub struct Table {
    /// All of them, built-in ones first, in the order of discovery.
    pub all: Vec<Arc<Resource>>,
    paths: Paths,
    /// Counts the changes, so that what is made of the table can be kept until the next.
    pub generation: u64,
}

impl Table {
    /// The resource that a path names.
    pub fn endpoint(&self, group: &str, version: &str, plural: &str) -> Option<&Endpoint> {
        self.paths.get(group)?.get(version)?.get(plural)
    }

    /// Whether any resource is served in this group and version.
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.paths.get(group).is_some_and(|versions| versions.contains_key(version))
    }

    /// Whether any resource is served in this group.
    pub fn has_group(&self, group: &str) -> bool {
        self.paths.contains_key(group)
    }

    /// The resource of a group, in whatever version.
    pub fn resource(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        let versions = self.paths.get(group)?.values();
        versions.filter_map(|plurals| plurals.get(plural)).map(|found| &found.resource).next()
    }

    /// The endpoint that serves a kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Endpoint> {
        let plurals = self.paths.get(group)?.get(version)?;
        plurals.values().find(|endpoint| &*endpoint.version().gvk.kind == kind)
    }
}

impl Resources {
    /// The resources as they are now.
    pub fn table(&self) -> arc_swap::Guard<Arc<Table>> {
        self.table.load()
    }

    /// The same, to be held for long.
    pub fn table_owned(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Replaces all resources.
    pub fn replace(&self, all: Vec<Arc<Resource>>) {
        let mut paths = Paths::new();
        for resource in &all {
            let versions = paths.entry(resource.group_resource.group.clone()).or_default();
            for (at, version) in resource.versions.iter().enumerate() {
                let endpoint = Endpoint::new(resource.clone(), at);
                let plurals = versions.entry(version.gvk.version.clone()).or_default();
                // Built-in resources come first and are not to be replaced.
                plurals.entry(resource.group_resource.resource.clone()).or_insert(endpoint);
            }
        }
        let generation = self.table.load().generation + 1;
        self.table.store(Arc::new(Table { all, paths, generation }));
        self.changes.send_replace(generation);
    }

    /// Tells when resources have come, changed or gone.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The resource of this group and name.
    pub fn get(&self, resource: &GroupResource) -> Option<Arc<Resource>> {
        self.table.load().resource(&resource.group, &resource.resource).cloned()
    }
}
