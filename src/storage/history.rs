//! The recent past of a collection: a bounded ring of events that watches read at their own pace.
//!
//! A watch holds a position, not a queue: a slow one costs nothing, and one that falls off the end
//! of the ring is told `Expired`, which clients answer by listing anew.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use apimachinery::Object;
use tokio::sync::Notify;

use crate::collection::Collection;

/// Memory that the events of one collection may hold on to, in bytes.
const WEIGHT_LIMIT: usize = 2 << 20;
/// As many events are kept whatever they weigh.
const LENGTH_FLOOR: usize = 100;
/// Events that a watch takes out of the ring at a time.
const BATCH: usize = 64;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was removed.
    Deleted,
}

/// One committed write.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object after the write; for a deletion its final state.
    pub object: Arc<Object>,
    /// The object before the write.
    pub previous: Option<Arc<Object>>,
    /// Revision of the write.
    pub revision: u64,
}

impl Event {
    fn weight(&self) -> usize {
        self.object.weight() + self.previous.as_ref().map_or(0, |previous| previous.weight())
    }
}

/// The history does not reach back to the revision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("history begins at revision {oldest}")]
pub struct Expired {
    /// The oldest revision that can be watched from.
    pub oldest: u64,
}

pub(crate) struct History {
    ring: Mutex<Ring>,
    wake: Notify,
}

struct Ring {
    events: VecDeque<Event>,
    weight: usize,
    /// Events up to this revision are forgotten.
    forgotten: u64,
}

impl History {
    pub(crate) fn new(revision: u64) -> Self {
        let ring = Ring { events: VecDeque::new(), weight: 0, forgotten: revision };
        Self { ring: Mutex::new(ring), wake: Notify::new() }
    }

    pub(crate) fn push(&self, events: Vec<Event>) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            ring.weight += event.weight();
            ring.events.push_back(event);
            while ring.weight > WEIGHT_LIMIT && ring.events.len() > LENGTH_FLOOR {
                let Some(oldest) = ring.events.pop_front() else { break };
                ring.weight -= oldest.weight();
                ring.forgotten = oldest.revision;
            }
        }
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_waiters();
    }

    pub(crate) fn check(&self, since: u64) -> Result<(), Expired> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.check(since)
    }

    fn after(&self, position: u64) -> Result<VecDeque<Event>, Expired> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.check(position)?;
        let first = ring.events.partition_point(|event| event.revision <= position);
        Ok(ring.events.range(first..).take(BATCH).cloned().collect())
    }
}

impl Ring {
    fn check(&self, since: u64) -> Result<(), Expired> {
        if since < self.forgotten { Err(Expired { oldest: self.forgotten }) } else { Ok(()) }
    }
}

/// A position in the history of a collection.
pub struct Watch {
    collection: Collection,
    position: u64,
    batch: VecDeque<Event>,
}

impl Watch {
    pub(crate) fn new(collection: Collection, position: u64) -> Self {
        Self { collection, position, batch: VecDeque::new() }
    }

    /// The next event; waits for one. Safe to drop while waiting.
    ///
    /// # Errors
    /// When events were forgotten before this watch came to them.
    pub async fn next(&mut self) -> Result<Event, Expired> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            let collection = self.collection.clone();
            let mut notified = std::pin::pin!(collection.inner.history.wake.notified());
            // Registered before the second look, so that no wake-up falls in between.
            notified.as_mut().enable();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            notified.await;
        }
    }

    /// The next event if there is one already.
    ///
    /// # Errors
    /// When events were forgotten before this watch came to them.
    pub fn try_next(&mut self) -> Result<Option<Event>, Expired> {
        if self.batch.is_empty() {
            let published = self.collection.inner.published.load(Ordering::Acquire);
            self.batch = self.collection.inner.history.after(self.position)?;
            if self.batch.is_empty() {
                self.position = self.position.max(published);
            }
        }
        let event = self.batch.pop_front();
        if let Some(event) = &event {
            self.position = event.revision;
        }
        Ok(event)
    }

    /// The revision up to which everything has been delivered: what a bookmark may say. It moves
    /// on with writes to other resources once [`Watch::try_next`] has found nothing.
    pub fn delivered(&self) -> u64 {
        self.position
    }
}
