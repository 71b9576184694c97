//! Informers: a local copy of a resource, kept current by a watch, that everyone in the process
//! shares.
//!
//! The copy holds `Arc<Object>`; over the in-process transport these are the very objects of the
//! API server's watch cache, so a cached pod costs a map entry and not a second copy.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use apimachinery::{GroupVersionResource, Key, Object};
use kube_core::Resource;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    Client,
    follow::{Event, Follower},
    resource_of,
    transport::WatchRequest,
};

/// How a cached object changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is there in this version; `old` is the one before, if it was known.
    Put {
        /// The version before.
        old: Option<Arc<Object>>,
        /// The version now.
        new: Arc<Object>,
    },
    /// The object is gone; this was its last version.
    Delete(Arc<Object>),
}

impl Change {
    /// The object as it is, or was last.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Put { new, .. } => new,
            Self::Delete(last) => last,
        }
    }

    /// The version before the change.
    pub fn previous(&self) -> Option<&Arc<Object>> {
        match self {
            Self::Put { old, .. } => old.as_ref(),
            Self::Delete(last) => Some(last),
        }
    }
}

/// Which objects of a resource an informer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// One namespace, or all of them.
    pub namespace: Option<String>,
    /// Label selector.
    pub labels: Option<String>,
    /// Field selector, such as `spec.nodeName=one`.
    pub fields: Option<String>,
}

impl Scope {
    /// The objects that match a field selector.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { fields: Some(selector.into()), ..Self::default() }
    }
}

type Handler = Box<dyn Fn(&Change) + Send + Sync>;
type IndexFunction = Box<dyn Fn(&Object) -> Vec<Box<str>> + Send + Sync>;

/// The informers of one client, each started when first asked for.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    stop: CancellationToken,
    tasks: TaskTracker,
    running: Arc<Mutex<HashMap<WatchRequest, Informer>>>,
}

impl Informers {
    /// No informers yet; they end when `stop` is cancelled.
    pub fn new(client: Client, stop: CancellationToken) -> Self {
        Self { client, stop, tasks: TaskTracker::new(), running: Arc::default() }
    }

    /// The client that the informers watch with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer of all objects of kind `K`.
    pub fn of<K: Resource<DynamicType = ()>>(&self) -> Informer {
        self.scoped::<K>(Scope::default())
    }

    /// The informer of some objects of kind `K`.
    pub fn scoped<K: Resource<DynamicType = ()>>(&self, scope: Scope) -> Informer {
        self.resource(resource_of::<K>(), scope)
    }

    /// The informer of a resource known by name only.
    pub fn resource(&self, resource: GroupVersionResource, scope: Scope) -> Informer {
        let request = WatchRequest {
            resource,
            namespace: scope.namespace,
            labels: scope.labels,
            fields: scope.fields,
            since: None,
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(informer) = running.get(&request) {
            return informer.clone();
        }
        let informer = Informer::new();
        running.insert(request.clone(), informer.clone());
        let (task, client, stop) = (informer.clone(), self.client.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = task.follow(client, request) => {}
                () = stop.cancelled() => {}
            }
        });
        informer
    }

    /// Waits until each of `informers` holds what existed when it started.
    pub async fn synced(informers: &[&Informer]) {
        for informer in informers {
            informer.synced().await;
        }
    }
}

/// One shared cache. Cheap to clone.
#[derive(Clone)]
pub struct Informer {
    inner: Arc<Inner>,
}

struct Inner {
    cache: RwLock<Cache>,
    /// Called in order of registration for every change, by the task that follows the watch.
    handlers: RwLock<Vec<Handler>>,
    /// Held while a change is applied and told, so that a new handler misses and repeats nothing.
    telling: Mutex<()>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Cache {
    objects: BTreeMap<Key, Arc<Object>>,
    /// Keys by owner UID.
    owned: HashMap<Box<str>, BTreeSet<Key>>,
    indexes: HashMap<&'static str, Index>,
}

struct Index {
    function: IndexFunction,
    keys: HashMap<Box<str>, BTreeSet<Key>>,
}

impl Informer {
    fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                cache: RwLock::default(),
                handlers: RwLock::default(),
                telling: Mutex::default(),
                synced: watch::Sender::new(false),
            }),
        }
    }

    fn cache(&self) -> RwLockReadGuard<'_, Cache> {
        self.inner.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.cache().objects.get(key).cloned()
    }

    /// The object at `namespace`/`name`, parsed. An object that does not fit its type is logged and
    /// treated as absent: the API server validated it, so this is a defect to be seen, not hidden.
    pub fn get_as<T: DeserializeOwned>(&self, namespace: &str, name: &str) -> Option<T> {
        let object = self.get(&Key::new(namespace, name))?;
        parse_or_warn(&object)
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.cache().objects.values().cloned().collect()
    }

    /// The objects of one namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let cache = self.cache();
        let from = Key::new(namespace, "");
        cache
            .objects
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| &*key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects that name `uid` among their owners.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        let cache = self.cache();
        cache.collect(cache.owned.get(uid))
    }

    /// The objects that the index `name` files under `value`.
    pub fn indexed(&self, name: &'static str, value: &str) -> Vec<Arc<Object>> {
        let cache = self.cache();
        cache.collect(cache.indexes.get(name).and_then(|index| index.keys.get(value)))
    }

    /// Adds an index, once per name: `function` says under which values an object is filed.
    pub fn add_index<F>(&self, name: &'static str, function: F)
    where
        F: Fn(&Object) -> Vec<Box<str>> + Send + Sync + 'static,
    {
        let mut cache = self.inner.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { function: Box::new(function), keys: HashMap::new() };
        for object in cache.objects.values() {
            index.insert(object);
        }
        cache.indexes.insert(name, index);
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.cache().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `handler` for every object that is there, and for every change from now on, in order.
    /// It runs in the task that follows the watch: it should queue a key and return.
    pub fn on_change<F>(&self, handler: F)
    where
        F: Fn(&Change) + Send + Sync + 'static,
    {
        let _telling = self.inner.telling.lock().unwrap_or_else(PoisonError::into_inner);
        for object in self.list() {
            handler(&Change::Put { old: None, new: object });
        }
        let mut handlers = self.inner.handlers.write().unwrap_or_else(PoisonError::into_inner);
        handlers.push(Box::new(handler));
    }

    /// Waits until the cache holds what existed when the informer started.
    pub async fn synced(&self) {
        // The sender lives as long as this handle, so waiting cannot fail.
        let _ = self.inner.synced.subscribe().wait_for(|synced| *synced).await;
    }

    async fn follow(self, client: Client, request: WatchRequest) {
        let resource = request.resource.resource.to_string();
        let mut follower = Follower::new(client, request);
        // While what exists comes in, what it does not mention is to be dropped at its end.
        let mut unseen = BTreeSet::new();
        loop {
            match follower.next().await {
                Event::Begin => unseen = self.cache().objects.keys().cloned().collect(),
                Event::Put(object) => {
                    unseen.remove(&object.key);
                    self.put(object);
                }
                Event::Delete(object) => self.delete(&object.key, Some(object.clone())),
                Event::Synced => {
                    for key in std::mem::take(&mut unseen) {
                        self.delete(&key, None);
                    }
                    self.inner.synced.send_replace(true);
                }
                Event::Failed(status) => warn!(resource, error = %status, "watch failed"),
            }
        }
    }

    fn put(&self, new: Arc<Object>) {
        let _telling = self.inner.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let old = {
            let mut cache = self.inner.cache.write().unwrap_or_else(PoisonError::into_inner);
            if cache.objects.get(&new.key).is_some_and(|old| old.revision == new.revision) {
                return;
            }
            cache.put(new.clone())
        };
        // Deleted and created anew while nobody watched: handlers must see the old one go.
        match old {
            Some(last) if last.uid != new.uid => {
                self.tell(&Change::Delete(last));
                self.tell(&Change::Put { old: None, new });
            }
            old => self.tell(&Change::Put { old, new }),
        }
    }

    fn delete(&self, key: &Key, last: Option<Arc<Object>>) {
        let _telling = self.inner.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut cache = self.inner.cache.write().unwrap_or_else(PoisonError::into_inner);
            cache.remove(key)
        };
        if let Some(known) = known {
            self.tell(&Change::Delete(last.unwrap_or(known)));
        }
    }

    fn tell(&self, change: &Change) {
        for handler in &*self.inner.handlers.read().unwrap_or_else(PoisonError::into_inner) {
            handler(change);
        }
    }
}

/// Parses an object, or logs that it does not fit its type.
pub fn parse_or_warn<T: DeserializeOwned>(object: &Object) -> Option<T> {
    object
        .parse()
        .inspect_err(|error| warn!(key = %object.key, %error, "object does not fit its type"))
        .ok()
}

impl Cache {
    fn collect(&self, keys: Option<&BTreeSet<Key>>) -> Vec<Arc<Object>> {
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    fn put(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let old = self.remove(&object.key);
        for owner in &object.owners {
            self.owned.entry(owner.uid.clone()).or_default().insert(object.key.clone());
        }
        for index in self.indexes.values_mut() {
            index.insert(&object);
        }
        self.objects.insert(object.key.clone(), object);
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        let old = self.objects.remove(key)?;
        for owner in &old.owners {
            unfile(&mut self.owned, &owner.uid, key);
        }
        for index in self.indexes.values_mut() {
            for value in (index.function)(&old) {
                unfile(&mut index.keys, &value, key);
            }
        }
        Some(old)
    }
}

impl Index {
    fn insert(&mut self, object: &Object) {
        for value in (self.function)(object) {
            self.keys.entry(value).or_default().insert(object.key.clone());
        }
    }
}

fn unfile(index: &mut HashMap<Box<str>, BTreeSet<Key>>, value: &str, key: &Key) {
    if let Some(keys) = index.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(value);
        }
    }
}
