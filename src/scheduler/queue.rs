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
    InHand(Missed),
}

/// What happened while a pod was being tried, on a picture that may be older.
#[derive(Default)]
struct Missed {
    /// Its own spec or labels changed.
    changed: bool,
    events: Vec<ClusterEvent>,
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
    pub(crate) fn put(&self, pod: PodInfo) {
        let key = pod.key().clone();
        let mut pods = self.lock();
        match pods.waiting.get_mut(&key) {
            Some(known) if known.pod.uid() == pod.uid() => {
                let same = known.pod.pod.spec == pod.pod.spec
                    && known.pod.pod.metadata.labels == pod.pod.metadata.labels;
                known.pod = pod;
                if let State::InHand(missed) = &mut known.state {
                    missed.changed |= !same;
                    return;
                }
                if same {
                    return;
                }
            }
            _ => {
                pods.forget(&key);
                let state = State::InHand(Missed::default());
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

    /// The next pod to try; waits for one.
    pub(crate) async fn next(&self) -> PodInfo {
        loop {
            let due = {
                let mut pods = self.lock();
                let now = Instant::now();
                pods.release_due(now);
                if let Some((_, key)) = pods.ready.pop_first()
                    && let Some(waiting) = pods.waiting.get_mut(&key)
                {
                    waiting.state = State::InHand(Missed::default());
                    waiting.attempts += 1;
                    return waiting.pod.clone();
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

    /// Puts back a pod that found no node: it waits for an event that helps `rejected_by`, if there
    /// was none since it was taken.
    pub(crate) fn unschedulable(
        &self,
        pod: &PodInfo,
        rejected_by: Vec<&'static str>,
        plugins: &Plugins,
    ) {
        self.lock().put_back(pod, |missed, now, backoff| {
            let helped = |event: &ClusterEvent| helps(plugins, &rejected_by, *event);
            if missed.changed || missed.events.iter().any(helped) {
                return State::BackingOff(now + backoff);
            }
            State::Unschedulable {
                not_before: now + backoff,
                at_last: now + LONGEST_WAIT,
                rejected_by,
            }
        });
        self.wake.notify_one();
    }

    /// Puts back a pod for which something failed: it is tried again after its backoff.
    pub(crate) fn failed(&self, pod: &PodInfo) {
        self.lock().put_back(pod, |_, now, backoff| State::BackingOff(now + backoff));
        self.wake.notify_one();
    }

    /// Frees the pods that `event` may help.
    pub(crate) fn retry_on(&self, event: ClusterEvent, plugins: &Plugins) {
        self.retry_those(event, plugins, |_| true);
    }

    /// Frees the pods among `which` that `event` may help.
    pub(crate) fn retry_those(
        &self,
        event: ClusterEvent,
        plugins: &Plugins,
        which: impl Fn(&PodInfo) -> bool,
    ) {
        let mut pods = self.lock();
        let mut freed = false;
        for waiting in pods.waiting.values_mut().filter(|waiting| which(&waiting.pod)) {
            match &mut waiting.state {
                State::Unschedulable { not_before, rejected_by, .. }
                    if helps(plugins, rejected_by, event) =>
                {
                    waiting.state = State::BackingOff(*not_before);
                    freed = true;
                }
                State::InHand(missed) if !missed.events.contains(&event) => {
                    missed.events.push(event);
                }
                _ => {}
            }
        }
        drop(pods);
        if freed {
            self.wake.notify_one();
        }
    }
}

/// Whether `event` may help a pod that these filters ruled out.
fn helps(plugins: &Plugins, rejected_by: &[&'static str], event: ClusterEvent) -> bool {
    let mut filters = plugins.filters.iter().filter(|f| rejected_by.contains(&f.name()));
    rejected_by.is_empty() || filters.any(|filter| filter.helped_by(event))
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

    /// Puts back a pod that was in hand, unless another has taken its place since.
    fn put_back(&mut self, pod: &PodInfo, to: impl FnOnce(&Missed, Instant, Duration) -> State) {
        let Some(waiting) = self.waiting.get_mut(pod.key()) else { return };
        let State::InHand(missed) = &waiting.state else { return };
        if waiting.pod.uid() == pod.uid() {
            let doublings = waiting.attempts.saturating_sub(1).min(8);
            let backoff = FIRST_BACKOFF.saturating_mul(1 << doublings).min(LAST_BACKOFF);
            waiting.state = to(missed, Instant::now(), backoff);
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
            Self::Ready(_) | Self::InHand(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{asking, pod, urgent};

    async fn next(queue: &Queue) -> String {
        queue.next().await.key().name.to_string()
    }

    #[tokio::test]
    async fn higher_priority_comes_first_then_who_came_first() {
        let queue = Queue::new();
        queue.put(asking("a", "1"));
        queue.put(asking("b", "1"));
        queue.put(urgent("urgent", "1", 9));
        assert_eq!(next(&queue).await, "urgent");
        assert_eq!(next(&queue).await, "a");
        assert_eq!(next(&queue).await, "b");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unschedulable_pod_waits_for_an_event_that_helps_it() {
        let (queue, plugins) = (Queue::new(), Plugins::default());
        queue.put(asking("a", "1"));
        let start = Instant::now();
        let a = queue.next().await;
        queue.unschedulable(&a, vec!["NodeAffinity"], &plugins);
        queue.retry_on(ClusterEvent::PodRemoved, &plugins);
        queue.put(asking("b", "1"));
        let b = queue.next().await;
        assert_eq!(b.uid(), "b");
        queue.remove(b.key());
        queue.retry_those(ClusterEvent::NodeChanged, &plugins, |pod| pod.uid() != "a");
        queue.retry_on(ClusterEvent::NodeChanged, &plugins);
        assert_eq!(next(&queue).await, "a");
        assert!((1..2).contains(&start.elapsed().as_secs()), "not before its backoff of a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_no_event_helps_is_tried_again_in_the_end() {
        let queue = Queue::new();
        queue.put(asking("a", "1"));
        let a = queue.next().await;
        let start = Instant::now();
        queue.unschedulable(&a, vec!["NodePorts"], &Plugins::default());
        next(&queue).await;
        assert_eq!(start.elapsed().as_secs(), 300);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_while_a_pod_is_being_tried_is_not_missed() {
        let (queue, plugins) = (Queue::new(), Plugins::default());
        queue.put(asking("a", "1"));
        let a = queue.next().await;
        queue.retry_on(ClusterEvent::PodRemoved, &plugins);
        let start = Instant::now();
        queue.unschedulable(&a, vec!["NodeResourcesFit"], &plugins);
        let a = queue.next().await;
        assert_eq!(start.elapsed().as_secs(), 1, "its backoff");
        let changed = json!({"metadata": {"name": "a", "labels": {"new": "one"}}});
        queue.put(pod(changed));
        queue.unschedulable(&a, vec!["NodeResourcesFit"], &plugins);
        next(&queue).await;
        assert!(start.elapsed().as_secs() < 10, "nor a change of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_took_the_name_of_another_is_not_put_back_in_its_stead() {
        let (queue, plugins) = (Queue::new(), Plugins::default());
        queue.put(asking("a", "1"));
        let old = queue.next().await;
        queue.remove(old.key());
        queue.put(pod(json!({"metadata": {"name": "a", "uid": "another"}})));
        queue.unschedulable(&old, vec!["NodePorts"], &plugins);
        assert_eq!(queue.next().await.uid(), "another");
        queue.unschedulable(&old, vec!["NodePorts"], &plugins);
        let start = Instant::now();
        assert!(tokio::time::timeout(LONGEST_WAIT * 2, queue.next()).await.is_err());
        assert!(start.elapsed() >= LONGEST_WAIT, "it is still in hand");
    }
}
