//! The objects of one resource: the watch cache.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::VecDeque,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use apimachinery::{Key, Object};
use arc_swap::ArcSwap;
use rpds::RedBlackTreeSetSync;

use crate::{
    history::{Expired, History, Watch},
    store::Durability,
};

/// How many snapshots a collection keeps for clients that list page by page. Each costs only what
/// has changed since it was taken.
const KEPT_SNAPSHOTS: usize = 16;

/// How long they are kept: what etcd's compaction leaves upstream's clients.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// An object ordered and found by its key, so that the key is stored once.
#[derive(Clone)]
pub(crate) struct ByKey(pub(crate) Arc<Object>);

impl Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

pub(crate) type Objects = RedBlackTreeSetSync<ByKey>;

/// The objects of one resource as of one revision. Cheap to clone; never changes.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) objects: Objects,
    pub(crate) revision: u64,
}

impl Snapshot {
    /// The revision that the snapshot shows: a watch from here misses and repeats nothing.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.size()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key).map(|entry| &entry.0)
    }

    /// All objects, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.iter().map(|entry| &entry.0)
    }

    /// The objects of one namespace, ordered by name.
    pub fn range<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.from(Bound::Included(Key::new(namespace, "")))
            .take_while(move |object| &*object.key.namespace == namespace)
    }

    /// The objects behind `key`, of all namespaces.
    pub fn range_after(&self, key: &Key) -> impl Iterator<Item = &Arc<Object>> {
        self.from(Bound::Excluded(key.clone()))
    }

    fn from(&self, start: Bound<Key>) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.range::<Key, _>((start, Bound::Unbounded)).map(|entry| &entry.0)
    }
}

/// The objects of one resource. Cheap to clone; reads never wait for writes.
#[derive(Clone)]
pub struct Collection {
    pub(crate) inner: Arc<CollectionInner>,
}

pub(crate) struct CollectionInner {
    /// `pods`, `deployments.apps`: the name in the database.
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) fields: &'static [&'static str],
    pub(crate) durability: Durability,
    pub(crate) current: ArcSwap<Snapshot>,
    pub(crate) history: History,
    /// Latest revision published by any collection of the store.
    pub(crate) published: Arc<AtomicU64>,
    kept: Mutex<VecDeque<(Instant, Snapshot)>>,
}

impl Collection {
    pub(crate) fn new(
        name: String,
        id: u32,
        fields: &'static [&'static str],
        durability: Durability,
        objects: Objects,
        published: Arc<AtomicU64>,
    ) -> Self {
        let revision = published.load(std::sync::atomic::Ordering::Acquire);
        Self {
            inner: Arc::new(CollectionInner {
                name,
                id,
                fields,
                durability,
                current: ArcSwap::from_pointee(Snapshot { objects, revision }),
                history: History::new(revision),
                published,
                kept: Mutex::default(),
            }),
        }
    }

    /// The name that the collection is stored under, such as `deployments.apps`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The selectable fields whose values its objects carry, in order.
    pub fn fields(&self) -> &'static [&'static str] {
        self.inner.fields
    }

    /// The object at `key` as last committed.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.inner.current.load().get(key).cloned()
    }

    /// All objects as last committed.
    pub fn snapshot(&self) -> Snapshot {
        // The store's revision is read before the objects: whatever was published by then is in
        // them, and if they are newer their own revision is the greater one.
        let published = self.inner.published.load(std::sync::atomic::Ordering::Acquire);
        let mut snapshot = Snapshot::clone(&self.inner.current.load());
        snapshot.revision = snapshot.revision.max(published);
        snapshot
    }

    /// Keeps `snapshot` for the pages that follow; the oldest kept one makes room.
    pub fn keep(&self, snapshot: &Snapshot) {
        let mut kept = self.kept();
        if kept.iter().any(|(_, known)| known.revision == snapshot.revision) {
            return;
        }
        if kept.len() == KEPT_SNAPSHOTS {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), snapshot.clone()));
    }

    /// The kept snapshot of `revision`, if it is still there.
    pub fn snapshot_at(&self, revision: u64) -> Option<Snapshot> {
        let kept = self.kept();
        if let Some((_, known)) = kept.iter().find(|(_, known)| known.revision == revision) {
            return Some(known.clone());
        }
        drop(kept);
        Some(self.snapshot()).filter(|snapshot| snapshot.revision == revision)
    }

    /// The kept snapshots that are not too old.
    fn kept(&self) -> MutexGuard<'_, VecDeque<(Instant, Snapshot)>> {
        let mut kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, _)| since.elapsed() < KEPT_FOR);
        kept
    }

    /// Everything that happens after revision `since`.
    ///
    /// # Errors
    /// When the history does not reach back that far.
    pub fn watch(&self, since: u64) -> Result<Watch, Expired> {
        self.inner.history.check(since)?;
        Ok(Watch::new(self.clone(), since))
    }
}
