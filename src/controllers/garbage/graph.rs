//! Who owns whom. UIDs on the owners' side, so that an owner need not be known to have dependents.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use apimachinery::{GroupVersionResource, Key, Object};

/// An object as the graph names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) resource: GroupVersionResource,
    pub(super) key: Key,
    pub(super) uid: Box<str>,
}

impl Identity {
    pub(super) fn new(resource: &GroupVersionResource, object: &Object) -> Self {
        Self { resource: resource.clone(), key: object.key.clone(), uid: object.uid.clone() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.group_resource(), self.key)
    }
}

/// The graph. Only objects that own or are owned have an entry.
#[derive(Default)]
pub(super) struct Graph {
    /// Owners of each dependent.
    owners: HashMap<Box<str>, Vec<Box<str>>>,
    /// Dependents of each owner, whether or not it exists.
    dependents: HashMap<Box<str>, HashSet<Identity>>,
    /// Owners on their way out, which wait for something.
    deleting: HashMap<Box<str>, Identity>,
}

impl Graph {
    /// Takes in an object; returns those that have to be looked at.
    pub(super) fn put(&mut self, identity: Identity, object: &Object) -> Vec<Identity> {
        let now: Vec<Box<str>> = object.owners.iter().map(|owner| owner.uid.clone()).collect();
        let before = self.owners.get(&identity.uid).cloned().unwrap_or_default();
        let mut concerned = Vec::new();
        if before != now {
            for gone in before.iter().filter(|uid| !now.contains(uid)) {
                self.forget(gone, &identity);
                // A foreground deletion may have waited for just this.
                concerned.extend(self.deleting.get(gone).cloned());
            }
            for owner in &now {
                self.dependents.entry(owner.clone()).or_default().insert(identity.clone());
            }
            match now.is_empty() {
                true => self.owners.remove(&identity.uid),
                false => self.owners.insert(identity.uid.clone(), now.clone()),
            };
            if !now.is_empty() {
                concerned.push(identity.clone());
            }
        }
        if object.deleting {
            // Owners that wait may wait for it no more: its references may have been changed so.
            concerned.extend(now.iter().filter_map(|owner| self.deleting.get(owner)).cloned());
            self.deleting.insert(identity.uid.clone(), identity.clone());
            concerned.push(identity);
        }
        concerned
    }

    /// Takes out an object that is gone; returns its dependents, and owners that waited for it.
    pub(super) fn remove(&mut self, identity: &Identity) -> Vec<Identity> {
        self.deleting.remove(&identity.uid);
        let mut concerned: Vec<Identity> = self.dependents_of(&identity.uid);
        for owner in self.owners.remove(&identity.uid).unwrap_or_default() {
            self.forget(&owner, identity);
            concerned.extend(self.deleting.get(&owner).cloned());
        }
        concerned
    }

    /// The dependents of `owner`.
    pub(super) fn dependents_of(&self, owner: &str) -> Vec<Identity> {
        self.dependents.get(owner).into_iter().flatten().cloned().collect()
    }

    fn forget(&mut self, owner: &str, dependent: &Identity) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::Draft;
    use serde_json::json;

    use super::*;

    fn object(name: &str, owners: &[&str], deleting: bool) -> (Identity, std::sync::Arc<Object>) {
        let owners: Vec<_> =
            owners.iter().map(|uid| json!({"kind": "K", "name": uid, "uid": uid})).collect();
        let mut value = json!({"metadata": {"name": name, "uid": name, "ownerReferences": owners}});
        if deleting {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let object = Draft::new(&value, &[] as &[&str]).unwrap().seal(1);
        (Identity::new(&GroupVersionResource::new("", "v1", "things"), &object), object)
    }

    fn names(concerned: Vec<Identity>) -> Vec<String> {
        concerned.into_iter().map(|identity| identity.uid.to_string()).collect()
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        let (owner, owner_object) = object("owner", &[], false);
        let (child, child_object) = object("child", &["owner"], false);
        assert_eq!(names(graph.put(child.clone(), &child_object)), ["child"]);
        assert!(graph.put(child, &child_object).is_empty(), "nothing new");
        assert!(graph.put(owner.clone(), &owner_object).is_empty());
        assert_eq!(names(graph.remove(&owner)), ["child"]);
    }

    #[test]
    fn a_deleting_owner_is_looked_at_when_a_dependent_goes() {
        let mut graph = Graph::default();
        let (owner, owner_object) = object("owner", &[], true);
        let (child, child_object) = object("child", &["owner"], false);
        graph.put(child.clone(), &child_object);
        assert_eq!(names(graph.put(owner, &owner_object)), ["owner"]);
        assert_eq!(names(graph.remove(&child)), ["owner"]);
        assert!(graph.dependents_of("owner").is_empty());
    }
}
