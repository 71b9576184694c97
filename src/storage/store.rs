//! The store: collections by resource and one way to write.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use apimachinery::{Draft, GroupResource, Key, Object};
use tokio::sync::oneshot;

use crate::{
    backend::{Backend, BackendError},
    collection::Collection,
    sqlite::Sqlite,
    writer::{self, Request},
};

/// What an acknowledged write to a collection survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss.
    Durable,
    /// A clean stop. Written in the background at times, so that heartbeats and events, which are
    /// worthless after a crash, do not wear out flash memory.
    Volatile,
}

/// A write of one object.
#[derive(Debug)]
pub enum Write {
    /// The key must be free.
    Create(Draft),
    /// The object must be at revision `expected`.
    Update {
        /// Its next version.
        draft: Draft,
        /// Its revision now.
        expected: u64,
    },
    /// The object must be at revision `expected`.
    Delete {
        /// Its revision now.
        expected: u64,
        /// Its final state, as the DELETED event shows it.
        last: Draft,
    },
}

impl Write {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Create(draft) | Self::Update { draft, .. } | Self::Delete { last: draft, .. } => {
                draft.key()
            }
        }
    }
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The key of a create is taken, by this object.
    #[error("the object exists")]
    Exists(Arc<Object>),
    /// There is no such object to update or delete.
    #[error("the object does not exist")]
    NotFound,
    /// The object is at another revision: this is it.
    #[error("the object has been modified")]
    Conflict(Arc<Object>),
    /// The medium failed.
    #[error(transparent)]
    Backend(#[from] Arc<BackendError>),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a store or collection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The medium failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A stored body is not an object.
    #[error("{resource}: a stored object is damaged: {source}")]
    Damaged {
        /// The resource it belongs to.
        resource: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// The store of a server. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    requests: std::sync::mpsc::Sender<Request>,
    writer: Mutex<Option<JoinHandle<()>>>,
    collections: Mutex<HashMap<String, Collection>>,
    published: Arc<AtomicU64>,
}

impl Store {
    /// Opens the SQLite store at `path`, making it if need be. Blocks.
    ///
    /// # Errors
    /// When the file cannot be opened or another server has it open.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::with_backend(Box::new(Sqlite::open(path)?))
    }

    fn with_backend(mut backend: Box<dyn Backend>) -> Result<Self, OpenError> {
        // What was reserved may have been given out before a crash: begin behind it. At least 1,
        // because clients read revision 0 as "any".
        let revision = backend.reserved()?.max(1);
        let published = Arc::new(AtomicU64::new(revision));
        let (requests, inbox) = std::sync::mpsc::channel();
        let state = writer::Writer::new(backend, published.clone())?;
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || state.run(&inbox))
            .map_err(|error| BackendError::Other(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                requests,
                writer: Mutex::new(Some(writer)),
                collections: Mutex::default(),
                published,
            }),
        })
    }

    /// The collection of `resource`, loaded on first use. `fields` are its selectable fields.
    ///
    /// # Errors
    /// When its objects cannot be loaded.
    pub async fn collection(
        &self,
        resource: &GroupResource,
        fields: &'static [&'static str],
        durability: Durability,
    ) -> Result<Collection, OpenError> {
        let name = resource.to_string();
        if let Some(collection) = self.opened(&name) {
            return Ok(collection);
        }
        let (reply, answer) = oneshot::channel();
        let request = Request::Load { name: name.clone(), fields, durability, reply };
        self.inner.requests.send(request).map_err(|_| OpenError::Closed)?;
        let collection = answer.await.map_err(|_| OpenError::Closed)??;
        let mut collections = self.inner.collections.lock().unwrap_or_else(PoisonError::into_inner);
        // Two may have asked at once: the first one's collection is the one that lives.
        Ok(collections.entry(name).or_insert(collection).clone())
    }

    fn opened(&self, name: &str) -> Option<Collection> {
        let collections = self.inner.collections.lock().unwrap_or_else(PoisonError::into_inner);
        collections.get(name).cloned()
    }

    /// The latest committed revision.
    pub fn revision(&self) -> u64 {
        self.inner.published.load(Ordering::Acquire)
    }

    /// Commits one write. When it returns the object, the write is as durable as the collection
    /// promises and every watch sees it.
    ///
    /// # Errors
    /// When the object is not in the expected state, or the medium failed; nothing happened then.
    pub async fn commit(
        &self,
        collection: &Collection,
        write: Write,
    ) -> Result<Arc<Object>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Write { collection: collection.clone(), write, reply };
        self.inner.requests.send(request).map_err(|_| WriteError::Closed)?;
        answer.await.map_err(|_| WriteError::Closed)?
    }

    /// Writes what is volatile, closes the database and ends the writer. Blocks.
    pub fn close(&self) {
        let _ = self.inner.requests.send(Request::Close);
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("store writer panicked");
        }
    }
}
