//! The pods that wait for a node.
//!
//! A pod is either ready to be tried (highest priority first, then longest waiting), backing off
//! after a failed try, or waiting for an event that could help it. Upstream calls these the
//! active, backoff and unschedulable queues.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apimachinery::Key;
use tokio::{sync::Notify, time::Instant};

use crate::{
    framework::{ClusterEvent, Plugins},
    pod::PodInfo,
};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// A pod that no event helped is tried again after this long, in case an event was missed.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Order of trying: by priority, then by arrival.
type Place = (Reverse<i32>, u64);

struct Waiting {
    pod: PodInfo,
    attempts: u32,
    state: State,
}

enum State {
    Ready(Place),
    /// Tried again at that time.
    BackingOff(Instant),
    /// Tried again when an event helps one of the named filters, though not before the first
    /// instant, or at the second one.
    Unschedulable {
        not_before: Instant,
        at_last: Instant,
        rejected_by: Vec<&'static str>,
    },
    /// Being tried.
    InHand,
}

#[derive(Default)]
struct Pods {
    waiting: HashMap<Key, Waiting>,
    ready: BTreeMap<Place, Key>,
    arrivals: u64,
}

pub(crate) struct Queue {
    pods: Mutex<Pods>,
    wake: Notify,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { pods: Mutex::default(), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a pending pod, or a new version of one. A changed spec makes it ready at once;
    /// a changed status (the scheduler's own doing) does not.
    pub(crate) fn put(&self, key: Key, pod: PodInfo) {
        let mut pods = self.lock();
        match pods.waiting.get_mut(&key) {
            Some(known) if known.pod.uid() == pod.uid() => {
                let same = known.pod.pod.spec == pod.pod.spec
                    && known.pod.pod.metadata.labels == pod.pod.metadata.labels;
                known.pod = pod;
                if same || matches!(known.state, State::InHand) {
                    return;
                }
            }
            _ => {
                pods.forget(&key);
                let state = State::InHand;
                pods.waiting.insert(key.clone(), Waiting { pod, attempts: 0, state });
            }
        }
        pods.make_ready(&key);
        drop(pods);
        self.wake.notify_one();
    }

    /// Forgets a pod that no longer waits.
    pub(crate) fn remove(&self, key: &Key) {
        self.lock().forget(key);
    }

    /// The next pod to try, with the number of the attempt; waits for one.
    pub(crate) async fn next(&self) -> (Key, PodInfo) {
        loop {
            let due = {
                let mut pods = self.lock();
                let now = Instant::now();
                pods.release_due(now);
                if let Some((_, key)) = pods.ready.pop_first()
                    && let Some(waiting) = pods.waiting.get_mut(&key)
                {
                    waiting.state = State::InHand;
                    waiting.attempts += 1;
                    return (key, waiting.pod.clone());
                }
                pods.next_due()
            };
            match due {
                Some(due) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Puts back a pod that found no node: it waits for an event that helps `rejected_by`.
    pub(crate) fn unschedulable(&self, key: &Key, rejected_by: Vec<&'static str>) {
        self.lock().put_back(key, |now, backoff| State::Unschedulable {
            not_before: now + backoff,
            at_last: now + LONGEST_WAIT,
            rejected_by,
        });
        self.wake.notify_one();
    }

    /// Puts back a pod that could not be bound: it is tried again after its backoff.
    pub(crate) fn failed(&self, key: &Key) {
        self.lock().put_back(key, |now, backoff| State::BackingOff(now + backoff));
        self.wake.notify_one();
    }

    /// Frees the pods that `event` may help.
    pub(crate) fn retry_on(&self, event: ClusterEvent, plugins: &Plugins) {
        let mut pods = self.lock();
        let mut freed = false;
        for waiting in pods.waiting.values_mut() {
            if let State::Unschedulable { not_before, rejected_by, .. } = &waiting.state {
                let helps = rejected_by.is_empty()
                    || plugins
                        .filters
                        .iter()
                        .any(|f| rejected_by.contains(&f.name()) && f.helped_by(event));
                if helps {
                    waiting.state = State::BackingOff(*not_before);
                    freed = true;
                }
            }
        }
        drop(pods);
        if freed {
            self.wake.notify_one();
        }
    }
}

impl Pods {
    fn make_ready(&mut self, key: &Key) {
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        if matches!(waiting.state, State::Ready(_)) {
            return;
        }
        let place = (Reverse(waiting.pod.priority()), self.arrivals);
        self.arrivals += 1;
        waiting.state = State::Ready(place);
        self.ready.insert(place, key.clone());
    }

    fn forget(&mut self, key: &Key) {
        if let Some(Waiting { state: State::Ready(place), .. }) = self.waiting.remove(key) {
            self.ready.remove(&place);
        }
    }

    fn put_back(&mut self, key: &Key, state: impl FnOnce(Instant, Duration) -> State) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            let doublings = waiting.attempts.saturating_sub(1).min(8);
            let backoff = FIRST_BACKOFF.saturating_mul(1 << doublings).min(LAST_BACKOFF);
            waiting.state = state(Instant::now(), backoff);
        }
    }

    fn release_due(&mut self, now: Instant) {
        let due: Vec<Key> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.state.due().is_some_and(|due| due <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.make_ready(&key);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|waiting| waiting.state.due()).min()
    }
}

impl State {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::BackingOff(due) | Self::Unschedulable { at_last: due, .. } => Some(*due),
            Self::Ready(_) | Self::InHand => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn put(queue: &Queue, name: &str, priority: i32) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"containers": [], "priority": priority},
        }))
        .unwrap();
        queue.put(Key::new("", name), PodInfo::new(pod));
    }

    async fn next(queue: &Queue) -> String {
        queue.next().await.0.name.to_string()
    }

    #[tokio::test]
    async fn higher_priority_comes_first_then_who_came_first() {
        let queue = Queue::new();
        put(&queue, "a", 0);
        put(&queue, "b", 0);
        put(&queue, "urgent", 9);
        assert_eq!(next(&queue).await, "urgent");
        assert_eq!(next(&queue).await, "a");
        assert_eq!(next(&queue).await, "b");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unschedulable_pod_waits_for_an_event_that_helps_it() {
        let (queue, plugins) = (Queue::new(), Plugins::default());
        put(&queue, "a", 0);
        let start = Instant::now();
        next(&queue).await;
        queue.unschedulable(&Key::new("", "a"), vec!["NodeAffinity"]);
        queue.retry_on(ClusterEvent::PodRemoved, &plugins);
        put(&queue, "b", 0);
        assert_eq!(next(&queue).await, "b");
        queue.remove(&Key::new("", "b"));
        queue.retry_on(ClusterEvent::NodeChanged, &plugins);
        assert_eq!(next(&queue).await, "a");
        assert!((1..2).contains(&start.elapsed().as_secs()), "not before its backoff of a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_no_event_helps_is_tried_again_in_the_end() {
        let queue = Queue::new();
        put(&queue, "a", 0);
        next(&queue).await;
        let start = Instant::now();
        queue.unschedulable(&Key::new("", "a"), vec!["NodePorts"]);
        next(&queue).await;
        assert_eq!(start.elapsed().as_secs(), 300);
    }
}
