//! RBAC: roles and bindings, parsed once and found by subject.
//!
//! The parsed form follows the four collections by their watches, drained at the first question
//! after a write: an answer always knows every write that came before it, and questions between
//! writes cost one atomic load more than the look-up.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use apimachinery::{GroupResource, Key, Object};
use serde::Deserialize;
use storage::{Collection, Durability, EventKind, OpenError, Store, Watch};

use super::{Decision, rules::PolicyRule};
use crate::request::{RequestInfo, UserInfo};

const GROUP: &str = "rbac.authorization.k8s.io";
const CLUSTER_ROLES: usize = 0;
const CLUSTER_BINDINGS: usize = 1;
const ROLES: usize = 2;
const BINDINGS: usize = 3;
const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// Who is bound: users and service accounts by their user name, or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(Box<str>),
    Group(Box<str>),
}

/// A binding of a role to one subject.
#[derive(Debug)]
struct Grant {
    binding: Key,
    /// `ClusterRole`, otherwise a Role in the binding's namespace.
    cluster_role: bool,
    role: Box<str>,
    /// The subject as messages name it.
    subject: Box<str>,
}

/// Grants of one scope by subject, and for each binding which subjects it names.
#[derive(Default)]
struct Grants {
    by_subject: HashMap<Subject, Vec<Arc<Grant>>>,
    subjects: HashMap<Key, Box<[Subject]>>,
}

#[derive(Default)]
struct Rules {
    cluster_roles: HashMap<Box<str>, Arc<[PolicyRule]>>,
    roles: HashMap<Key, Arc<[PolicyRule]>>,
    cluster: Grants,
    /// By namespace.
    local: HashMap<Box<str>, Grants>,
}

/// Evaluates roles and bindings.
pub(super) struct Rbac {
    store: Store,
    rules: RwLock<Rules>,
    watches: Mutex<[(Collection, Watch); 4]>,
    /// Store revision up to which the watches were drained.
    seen: AtomicU64,
}

impl Rbac {
    pub(super) async fn open(store: &Store) -> Result<Self, OpenError> {
        let mut rules = Rules::default();
        let mut watches = Vec::with_capacity(4);
        for (at, resource) in RESOURCES.into_iter().enumerate() {
            let resource = GroupResource::new(GROUP, resource);
            let collection = store.collection(&resource, &[], Durability::Durable).await?;
            watches.push(rules.load(at, collection));
        }
        let watches: [(Collection, Watch); 4] =
            watches.try_into().unwrap_or_else(|_| unreachable!("there are four resources"));
        Ok(Self {
            store: store.clone(),
            rules: RwLock::new(rules),
            watches: Mutex::new(watches),
            seen: AtomicU64::new(0),
        })
    }

    /// Takes in what was written since the last question.
    fn refresh(&self) {
        let revision = self.store.revision();
        if self.seen.load(Ordering::Acquire) >= revision {
            return;
        }
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for at in 0..watches.len() {
            loop {
                match watches[at].1.try_next() {
                    Ok(None) => break,
                    Ok(Some(event)) => {
                        let object = (event.kind != EventKind::Deleted).then_some(&*event.object);
                        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
                        rules.set(at, &event.object.key, object);
                    }
                    // Too far behind: everything anew.
                    Err(_) => {
                        let collection = watches[at].0.clone();
                        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
                        rules.clear(at);
                        watches[at] = rules.load(at, collection);
                    }
                }
            }
        }
        self.seen.fetch_max(revision, Ordering::AcqRel);
    }

    /// Whether a rule lets `user` do `info`, and why; on a denial the reason names bindings to
    /// roles that do not exist. The reason of an allowance is there only when asked for.
    pub(super) fn decide(&self, user: &UserInfo, info: &RequestInfo, explain: bool) -> Decision {
        let mut allowed = Decision::default();
        let mut lost = Vec::new();
        self.visit(user, &info.namespace, |grant, rules| {
            let Some(rules) = rules else {
                lost.push(grant.lost_role());
                return true;
            };
            if !rules.iter().any(|rule| rule.allows(info)) {
                return true;
            }
            allowed.allowed = true;
            if explain {
                allowed.reason = grant.describe();
            }
            false
        });
        if !allowed.allowed && !lost.is_empty() {
            lost.dedup();
            allowed.reason = match lost.as_slice() {
                [one] => format!("RBAC: {one}"),
                many => format!("RBAC: [{}]", many.join(", ")),
            };
        }
        allowed
    }

    /// All rules that apply to `user` in `namespace` (cluster-wide ones alone when it is empty).
    pub(super) fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
        let mut all = Vec::new();
        self.visit(user, namespace, |_, rules| {
            all.extend_from_slice(rules.unwrap_or_default());
            true
        });
        all
    }

    /// The rules of the role that a binding in `namespace` refers to.
    pub(super) fn role(
        &self,
        cluster: bool,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<[PolicyRule]>> {
        self.refresh();
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.role(cluster, namespace, name)
    }

    /// Calls `visit` with each grant to `user` and the rules of its role, if that exists, until it
    /// returns false.
    fn visit(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut visit: impl FnMut(&Grant, Option<&[PolicyRule]>) -> bool,
    ) {
        self.refresh();
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let local = rules.local.get(namespace).filter(|_| !namespace.is_empty());
        let subjects = std::iter::once(Subject::User(user.name.as_str().into()))
            .chain(user.groups.iter().map(|group| Subject::Group(group.as_str().into())));
        let subjects: Vec<Subject> = subjects.collect();
        for grants in std::iter::once(&rules.cluster).chain(local) {
            for subject in &subjects {
                for grant in grants.by_subject.get(subject).into_iter().flatten() {
                    let role =
                        rules.role(grant.cluster_role, &grant.binding.namespace, &grant.role);
                    if !visit(grant, role.as_deref()) {
                        return;
                    }
                }
            }
        }
    }
}

impl Grant {
    /// `clusterrole.rbac.authorization.k8s.io "a" not found`.
    fn lost_role(&self) -> String {
        let kind = if self.cluster_role { "clusterrole" } else { "role" };
        format!("{kind}.{GROUP} {:?} not found", self.role)
    }

    /// `RBAC: allowed by ClusterRoleBinding "a" of ClusterRole "b" to Group "c"`.
    fn describe(&self) -> String {
        let role = if self.cluster_role { "ClusterRole" } else { "Role" };
        let Key { namespace, name } = &self.binding;
        let binding = match &**namespace {
            "" => format!("ClusterRoleBinding {name:?}"),
            namespace => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
        };
        format!("RBAC: allowed by {binding} of {role} {:?} to {}", self.role, self.subject)
    }
}

#[derive(Deserialize)]
struct RoleObject {
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingObject {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<SubjectObject>>,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: Box<str>,
    name: Box<str>,
}

#[derive(Deserialize)]
struct SubjectObject {
    kind: Box<str>,
    name: Box<str>,
    #[serde(default)]
    namespace: Box<str>,
}

impl SubjectObject {
    /// The subject, where a service account without a namespace is in the binding's.
    fn resolve(&self, binding: &Key) -> Option<(Subject, Box<str>)> {
        let Self { kind, name, namespace } = self;
        let subject = match &**kind {
            "User" => Subject::User(name.clone()),
            "Group" => Subject::Group(name.clone()),
            "ServiceAccount" => {
                let namespace = if namespace.is_empty() { &binding.namespace } else { namespace };
                if namespace.is_empty() {
                    return None;
                }
                let user = format!("system:serviceaccount:{namespace}:{name}");
                let described = format!("{kind} {:?}", format!("{name}/{namespace}"));
                return Some((Subject::User(user.into()), described.into()));
            }
            _ => return None,
        };
        Some((subject, format!("{kind} {name:?}").into()))
    }
}

impl Rules {
    /// Reads a whole collection, and a watch from there on.
    fn load(&mut self, at: usize, collection: Collection) -> (Collection, Watch) {
        loop {
            let snapshot = collection.snapshot();
            let Ok(watch) = collection.watch(snapshot.revision()) else { continue };
            for object in snapshot.iter() {
                self.set(at, &object.key, Some(object));
            }
            return (collection, watch);
        }
    }

    fn clear(&mut self, at: usize) {
        match at {
            CLUSTER_ROLES => self.cluster_roles.clear(),
            ROLES => self.roles.clear(),
            CLUSTER_BINDINGS => self.cluster = Grants::default(),
            _ => self.local.clear(),
        }
    }

    /// Replaces the object at `key`, or removes it.
    fn set(&mut self, at: usize, key: &Key, object: Option<&Object>) {
        match at {
            CLUSTER_ROLES => match object.map(parse_role) {
                Some(rules) => drop(self.cluster_roles.insert(key.name.clone(), rules)),
                None => drop(self.cluster_roles.remove(&key.name)),
            },
            ROLES => match object.map(parse_role) {
                Some(rules) => drop(self.roles.insert(key.clone(), rules)),
                None => drop(self.roles.remove(key)),
            },
            CLUSTER_BINDINGS => self.cluster.set(key, object),
            BINDINGS => {
                let grants = self.local.entry(key.namespace.clone()).or_default();
                grants.set(key, object);
                if grants.subjects.is_empty() {
                    self.local.remove(&key.namespace);
                }
            }
            _ => {}
        }
    }

    fn role(&self, cluster: bool, namespace: &str, name: &str) -> Option<Arc<[PolicyRule]>> {
        let found = match cluster {
            true => self.cluster_roles.get(name),
            false => self.roles.get(&Key::new(namespace, name)),
        };
        found.cloned()
    }
}

fn parse_role(object: &Object) -> Arc<[PolicyRule]> {
    match object.parse::<RoleObject>() {
        Ok(role) => role.rules.unwrap_or_default().into(),
        Err(error) => {
            tracing::warn!(role = %object.key, %error, "role does not parse and grants nothing");
            Arc::default()
        }
    }
}

impl Grants {
    fn set(&mut self, key: &Key, object: Option<&Object>) {
        for subject in self.subjects.remove(key).unwrap_or_default() {
            if let Some(grants) = self.by_subject.get_mut(&subject) {
                grants.retain(|grant| grant.binding != *key);
                if grants.is_empty() {
                    self.by_subject.remove(&subject);
                }
            }
        }
        let Some(object) = object else { return };
        let binding = match object.parse::<BindingObject>() {
            Ok(binding) => binding,
            Err(error) => {
                tracing::warn!(binding = %key, %error, "binding does not parse and grants nothing");
                return;
            }
        };
        let mut subjects = Vec::new();
        for (subject, described) in
            binding.subjects.iter().flatten().filter_map(|subject| subject.resolve(key))
        {
            let grant = Grant {
                binding: key.clone(),
                cluster_role: &*binding.role_ref.kind == "ClusterRole",
                role: binding.role_ref.name.clone(),
                subject: described,
            };
            self.by_subject.entry(subject.clone()).or_default().push(Arc::new(grant));
            subjects.push(subject);
        }
        self.subjects.insert(key.clone(), subjects.into());
    }
}
