//! A work queue: keys wait here to be reconciled.
//!
//! A key is in the queue at most once, is never handed to two workers at a time, and is queued
//! again if it was added while a worker held it. Failed keys come back with exponential backoff.
//! The rules are those of client-go's `workqueue`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// The first retry of a failed key comes after this long; each further one after twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// No retry waits longer.
const LAST_RETRY: Duration = Duration::from_secs(1000);

/// A queue of keys. Shared by reference between those who add and those who work.
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that wait in `ready`, or that must go back there when their worker is done.
    dirty: HashSet<K>,
    held: HashSet<K>,
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed_keys: BTreeMap<u64, K>,
    next_ticket: u64,
    failures: HashMap<K, u32>,
    closed: bool,
}

impl<K: Clone + Eq + Hash + Send> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash + Send> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                held: HashSet::new(),
                delayed: BinaryHeap::new(),
                delayed_keys: BTreeMap::new(),
                next_ticket: 0,
                failures: HashMap::new(),
                closed: false,
            }),
            wake: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // A panic under this lock cannot leave the collections half changed in a way that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `key` unless it waits already.
    pub fn add(&self, key: K) {
        if self.lock().add(key) {
            self.wake.notify_one();
        }
    }

    /// Queues `key` when `delay` has passed.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let due = Instant::now() + delay;
        let earliest = state.delayed.peek().is_none_or(|Reverse((first, _))| due < *first);
        state.delayed.push(Reverse((due, ticket)));
        state.delayed_keys.insert(ticket, key);
        drop(state);
        if earliest {
            self.wake.notify_one();
        }
    }

    /// Queues a failed `key` again, later each time.
    pub fn retry(&self, key: K) {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(20)).min(LAST_RETRY);
            *failures += 1;
            delay
        };
        self.add_after(key, delay);
    }

    /// How often `key` has failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Forgets the failures of `key`.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key; the caller holds it until it calls [`WorkQueue::done`]. `None` when closed.
    pub async fn next(&self) -> Option<K> {
        loop {
            let notified = self.wake.notified();
            let due = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                state.release_due();
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.held.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.peek().map(|Reverse((due, _))| *due)
            };
            match due {
                Some(due) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => notified.await,
            }
        }
    }

    /// Gives `key` back; it is queued again if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.lock();
        state.held.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Ends the queue: every [`WorkQueue::next`] returns `None` from now on.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// Keys that wait to be worked on now.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key waits to be worked on now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Returns whether a worker has to wake up.
    fn add(&mut self, key: K) -> bool {
        if !self.dirty.insert(key.clone()) || self.held.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn release_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, ticket))) = self.delayed.peek().copied() {
            if due > now {
                break;
            }
            self.delayed.pop();
            if let Some(key) = self.delayed_keys.remove(&ticket) {
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_is_held_by_one_worker() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert!(queue.is_empty(), "a is held, so it does not wait yet");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_each_time_until_forgotten() {
        let queue = WorkQueue::new();
        for expected in [5, 10, 20] {
            let before = Instant::now();
            queue.retry(1);
            assert_eq!(queue.next().await, Some(1));
            queue.done(&1);
            let waited = before.elapsed();
            assert!((expected..expected + 3).contains(&waited.as_millis()), "{waited:?}");
        }
        queue.forget(&1);
        assert_eq!(queue.failures(&1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_delay_overtakes_a_later_one() {
        let queue = WorkQueue::new();
        queue.add_after("late", Duration::from_secs(2));
        queue.add_after("soon", Duration::from_secs(1));
        assert_eq!(queue.next().await, Some("soon"));
        assert_eq!(queue.next().await, Some("late"));
    }

    #[tokio::test]
    async fn closing_ends_every_worker() {
        let queue = std::sync::Arc::new(WorkQueue::<u8>::new());
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
    }
}
