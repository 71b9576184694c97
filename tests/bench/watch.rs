//! A watch that notes when each event came.

use std::{
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    http::Request,
    target::{Target, get},
};

/// How long an event is waited for.
const LIMIT: Duration = Duration::from_secs(120);

/// Something happened to an object.
pub struct Event {
    /// When the event was read.
    pub at: Instant,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub kind: String,
    pub object: Value,
}

impl Event {
    /// The name of the object.
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// An open watch.
pub struct Watch(Receiver<Event>);

impl Watch {
    /// Watches what `path` lists, from now on.
    pub fn from_now(target: &Target, path: &str) -> Self {
        let mut connection = target.dial();
        let list = get(&mut connection, &format!("{path}?limit=1"));
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        Self::open(target, format!("{path}?watch=1&resourceVersion={version}"))
    }

    /// Watches what `path` lists, what is there already first.
    pub fn with_all(target: &Target, path: &str) -> Self {
        Self::open(target, format!("{path}?watch=1"))
    }

    fn open(target: &Target, path: String) -> Self {
        let mut connection = target.dial();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            // It ends with the server or with the receiver; whoever waits for more will say so.
            let _ = connection.lines(Request::new("GET", &path), |line| {
                let at = Instant::now();
                let Ok(mut event) = serde_json::from_slice::<Value>(line) else { return false };
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                sender.send(Event { at, kind, object: event["object"].take() }).is_ok()
            });
        });
        Self(receiver)
    }

    /// The first event that is `wanted`.
    pub fn until(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let begin = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(begin.elapsed());
            let event = self.0.recv_timeout(left);
            let event = event.unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
            if wanted(&event) {
                return event;
            }
        }
    }
}
