//! The writer thread: the only one that changes anything.
//!
//! Requests that wait are taken together and committed in one transaction (group commit), which is
//! what makes durable writes fast with many clients. Within a batch every write sees those before
//! it. Only what is on disk is published: a failed batch leaves no trace.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use apimachinery::{Key, Object};
use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::warn;

use crate::{
    backend::{Backend, BackendError, Change},
    collection::{ByKey, Collection, Objects, Snapshot},
    history::{Event, EventKind},
    store::{Durability, OpenError, Write, WriteError},
};

/// Writes taken into one transaction at the most.
const BATCH: usize = 256;
/// Revisions reserved on disk at a time; one small write per so many revisions and per start.
const RESERVATION: u64 = 100_000;
/// How long volatile objects may stay in memory alone.
const FLUSH_AFTER: Duration = Duration::from_secs(600);

/// A volatile object by resource and key, and what the disk is to hold of it: its revision and
/// body, or nothing once it is deleted.
type Unsaved = ((u32, Key), Option<(u64, Bytes)>);

type Reply = oneshot::Sender<Result<Arc<Object>, WriteError>>;

/// What the writer is asked for.
pub(crate) enum Request {
    Load {
        name: String,
        fields: &'static [&'static str],
        durability: Durability,
        reply: oneshot::Sender<Result<Collection, OpenError>>,
    },
    Write {
        collection: Collection,
        write: Write,
        reply: Reply,
    },
    Close,
}

pub(crate) struct Writer {
    backend: Box<dyn Backend>,
    /// Last revision given out.
    revision: u64,
    reserved: u64,
    published: Arc<AtomicU64>,
    /// Volatile state that the disk does not have yet; `None` is a deletion.
    unsaved: HashMap<(u32, Key), Option<(u64, Bytes)>>,
    flush_at: Option<Instant>,
}

/// A batch while it is checked and numbered.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    unsaved: Vec<Unsaved>,
    /// Objects and events of each collection that the batch touches, by its id.
    touched: HashMap<u32, Touched>,
    done: Vec<(Reply, Arc<Object>)>,
}

struct Touched {
    collection: Collection,
    objects: Objects,
    events: Vec<Event>,
}

impl Writer {
    pub(crate) fn new(
        mut backend: Box<dyn Backend>,
        published: Arc<AtomicU64>,
    ) -> Result<Self, BackendError> {
        let revision = published.load(Ordering::Acquire);
        let reserved = revision + RESERVATION;
        backend.reserve(reserved)?;
        Ok(Self { backend, revision, reserved, published, unsaved: HashMap::new(), flush_at: None })
    }

    pub(crate) fn run(mut self, inbox: &Receiver<Request>) {
        while let Some(first) = self.wait(inbox) {
            let mut writes = Vec::new();
            let mut next = Some(first);
            let mut closing = false;
            while let Some(request) = next {
                match request {
                    Request::Write { collection, write, reply } => {
                        writes.push((collection, write, reply));
                    }
                    Request::Load { name, fields, durability, reply } => {
                        let _ = reply.send(self.load(name, fields, durability));
                    }
                    Request::Close => {
                        closing = true;
                        break;
                    }
                }
                next = if writes.len() < BATCH { inbox.try_recv().ok() } else { None };
            }
            self.commit(writes);
            if closing {
                break;
            }
        }
        self.flush();
    }

    /// The next request; flushes volatile objects when their time has come.
    fn wait(&mut self, inbox: &Receiver<Request>) -> Option<Request> {
        loop {
            let Some(due) = self.flush_at else { return inbox.recv().ok() };
            match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn load(
        &mut self,
        name: String,
        fields: &'static [&'static str],
        durability: Durability,
    ) -> Result<Collection, OpenError> {
        // An unloaded resource may be asked for again while its volatile objects are unsaved.
        self.flush();
        let id = self.backend.resource_id(&name)?;
        let mut objects = Objects::new_sync();
        let mut damaged = None;
        self.backend.load(id, &mut |body| match Object::parse_index(body, fields) {
            Ok(object) => {
                objects.insert_mut(ByKey(Arc::new(object)));
            }
            Err(error) => damaged = Some(error),
        })?;
        if let Some(source) = damaged {
            return Err(OpenError::Damaged { resource: name, source: Box::new(source) });
        }
        Ok(Collection::new(name, id, fields, durability, objects, self.published.clone()))
    }

    fn commit(&mut self, writes: Vec<(Collection, Write, Reply)>) {
        let before = self.revision;
        let mut batch = Batch::default();
        for (collection, write, reply) in writes {
            match self.stage(&mut batch, collection, write) {
                Ok(object) => batch.done.push((reply, object)),
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        if self.revision == before {
            return;
        }
        match self.make_durable(&batch.changes) {
            Ok(()) => self.publish(batch),
            Err(error) => {
                warn!(%error, writes = batch.done.len(), "commit failed");
                self.revision = before;
                let error = Arc::new(error);
                for (reply, _) in batch.done {
                    let _ = reply.send(Err(WriteError::Backend(error.clone())));
                }
            }
        }
    }

    /// Checks one write against what the batch has done so far, and numbers it.
    fn stage(
        &mut self,
        batch: &mut Batch,
        collection: Collection,
        write: Write,
    ) -> Result<Arc<Object>, WriteError> {
        let (id, durability) = (collection.inner.id, collection.inner.durability);
        let touched = batch.touched.entry(id).or_insert_with(|| Touched {
            objects: collection.inner.current.load().objects.clone(),
            collection,
            events: Vec::new(),
        });
        let previous = touched.objects.get(write.key()).map(|entry| entry.0.clone());
        let (kind, draft) = match (write, &previous) {
            (Write::Create(_), Some(there)) => return Err(WriteError::Exists(there.clone())),
            (Write::Create(draft), None) => (EventKind::Added, draft),
            (Write::Update { .. } | Write::Delete { .. }, None) => {
                return Err(WriteError::NotFound);
            }
            (Write::Update { expected, .. } | Write::Delete { expected, .. }, Some(there))
                if expected != there.revision =>
            {
                return Err(WriteError::Conflict(there.clone()));
            }
            (Write::Update { draft, .. }, Some(_)) => (EventKind::Modified, draft),
            (Write::Delete { last, .. }, Some(_)) => (EventKind::Deleted, last),
        };
        self.revision += 1;
        let revision = self.revision;
        let object = draft.seal(revision);
        let key = object.key.clone();
        let state = if kind == EventKind::Deleted {
            touched.objects.remove_mut(&key);
            None
        } else {
            touched.objects.insert_mut(ByKey(object.clone()));
            Some((revision, object.body.clone()))
        };
        match (durability, state) {
            (Durability::Volatile, state) => batch.unsaved.push(((id, key), state)),
            (Durability::Durable, Some((revision, body))) => {
                batch.changes.push(Change::Put { resource: id, key, revision, body });
            }
            (Durability::Durable, None) => batch.changes.push(Change::Delete { resource: id, key }),
        }
        touched.events.push(Event { kind, object: object.clone(), previous, revision });
        Ok(object)
    }

    fn make_durable(&mut self, changes: &[Change]) -> Result<(), BackendError> {
        if self.revision > self.reserved {
            let reserved = self.revision + RESERVATION;
            self.backend.reserve(reserved)?;
            self.reserved = reserved;
        }
        if changes.is_empty() { Ok(()) } else { self.backend.commit(changes) }
    }

    fn publish(&mut self, batch: Batch) {
        for (key, state) in batch.unsaved {
            self.unsaved.insert(key, state);
            self.flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
        }
        // Objects before history before the store's revision: who sees a revision finds all that
        // led to it.
        let mut touched: Vec<Touched> = batch.touched.into_values().collect();
        touched.retain(|touched| !touched.events.is_empty());
        let collections: Vec<Collection> = touched
            .into_iter()
            .map(|Touched { collection, objects, events }| {
                let revision = events.last().map_or(0, |event| event.revision);
                collection.inner.current.store(Arc::new(Snapshot { objects, revision }));
                collection.inner.history.push(events);
                collection
            })
            .collect();
        self.published.store(self.revision, Ordering::Release);
        for collection in collections {
            collection.inner.history.wake();
        }
        for (reply, object) in batch.done {
            let _ = reply.send(Ok(object));
        }
    }

    fn flush(&mut self) {
        self.flush_at = None;
        if self.unsaved.is_empty() {
            return;
        }
        let changes: Vec<Change> = self
            .unsaved
            .iter()
            .map(|((resource, key), state)| match state {
                Some((revision, body)) => Change::Put {
                    resource: *resource,
                    key: key.clone(),
                    revision: *revision,
                    body: body.clone(),
                },
                None => Change::Delete { resource: *resource, key: key.clone() },
            })
            .collect();
        match self.backend.commit(&changes) {
            Ok(()) => self.unsaved.clear(),
            Err(error) => {
                warn!(%error, "volatile objects not saved");
                self.flush_at = Some(Instant::now() + FLUSH_AFTER);
            }
        }
    }
}
