//! What a client's connection is doing, so that idle and stalled ones can be told from busy ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection may be open without a request.
pub(crate) const IDLE: Duration = Duration::from_secs(75);
/// How long the head of a request may take from its first byte on.
pub(crate) const HEAD: Duration = Duration::from_secs(15);

/// The state of one connection, shared by its stream, its requests and its watchdog.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
    /// HTTP/2 has frames that belong to no request, so bytes do not mean that one has begun.
    framed: bool,
}

#[derive(Debug)]
struct State {
    requests: usize,
    idle_since: Instant,
    head_since: Option<Instant>,
}

/// What is to be done about a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again then.
    Fine(Instant),
    /// It has been without a request for too long.
    Idle,
    /// A request has begun and does not come to its end.
    Stalled,
}

impl Activity {
    pub(crate) fn new(framed: bool) -> Arc<Self> {
        let state = State { requests: 0, idle_since: Instant::now(), head_since: None };
        Arc::new(Self { state: Mutex::new(state), framed })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have arrived.
    pub(crate) fn received(&self) {
        if self.framed {
            return;
        }
        let mut state = self.state();
        if state.requests == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    /// A request is being served for as long as the guard lives.
    pub(crate) fn request(self: &Arc<Self>) -> Request {
        let mut state = self.state();
        state.requests += 1;
        state.head_since = None;
        drop(state);
        Request(self.clone())
    }

    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        let state = self.state();
        if state.requests > 0 {
            return Verdict::Fine(now + HEAD);
        }
        if let Some(since) = state.head_since {
            let until = since + HEAD;
            return if until > now { Verdict::Fine(until) } else { Verdict::Stalled };
        }
        let until = state.idle_since + IDLE;
        // A head that begins in the meantime must not wait for the idle limit.
        let next = if self.framed { until } else { until.min(now + HEAD) };
        if until > now { Verdict::Fine(next) } else { Verdict::Idle }
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(crate) struct Request(Arc<Activity>);

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.idle_since = Instant::now();
        state.head_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle() {
        let activity = Activity::new(false);
        let start = Instant::now();
        assert_eq!(activity.verdict(start), Verdict::Fine(start + HEAD));
        assert_eq!(activity.verdict(start + IDLE), Verdict::Idle);
        let request = activity.request();
        assert!(matches!(activity.verdict(start + 10 * IDLE), Verdict::Fine(_)));
        tokio::time::advance(IDLE).await;
        drop(request);
        let now = Instant::now();
        assert!(matches!(activity.verdict(now), Verdict::Fine(_)));
        assert_eq!(activity.verdict(now + IDLE), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn stalled() {
        let activity = Activity::new(false);
        activity.received();
        let start = Instant::now();
        tokio::time::advance(HEAD / 2).await;
        activity.received();
        assert_eq!(activity.verdict(Instant::now()), Verdict::Fine(start + HEAD));
        assert_eq!(activity.verdict(start + HEAD), Verdict::Stalled);
        let first = activity.request();
        let second = activity.request();
        drop(first);
        activity.received();
        drop(second);
        assert_eq!(
            activity.verdict(Instant::now() + HEAD),
            Verdict::Fine(Instant::now() + 2 * HEAD)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_no_request() {
        let activity = Activity::new(true);
        activity.received();
        let start = Instant::now();
        assert_eq!(activity.verdict(start + HEAD), Verdict::Fine(start + IDLE));
        assert_eq!(activity.verdict(start + IDLE), Verdict::Idle);
    }
}
