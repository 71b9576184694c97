//! A watch that does not end: opened again when it breaks, begun anew when its history is gone.

use std::{sync::Arc, time::Duration};

use apimachinery::{Object, Status};
use futures::StreamExt;
use tracing::debug;

use crate::{
    Client,
    transport::{WatchItem, WatchRequest, WatchStream},
};

/// How long to wait before a watch is opened again: longer each time, until it brings something.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a followed selection tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// What exists comes, for the first time or again: what is not put until the next `Synced` is
    /// gone. A follower that continues after a revision does not begin so.
    Begin,
    /// The object exists in this version.
    Put(Arc<Object>),
    /// The object is gone, or left the selection; this was its last version.
    Delete(Arc<Object>),
    /// All that existed has been told.
    Synced,
    /// The server refused or could not be reached. What was told still is the best that is known;
    /// the watch will be tried again.
    Failed(Box<Status>),
}

/// Follows what a request selects.
pub struct Follower {
    client: Client,
    request: WatchRequest,
    stream: Option<WatchStream>,
    /// Between `Begin` and `Synced`, when a broken watch has to begin anew.
    listing: bool,
    pause: Option<Duration>,
    next_pause: Duration,
}

impl Follower {
    /// Opens no watch before the first event is asked for.
    pub fn new(client: Client, request: WatchRequest) -> Self {
        Self { client, request, stream: None, listing: false, pause: None, next_pause: FIRST_PAUSE }
    }

    /// The next event; waits as long as it takes. An event is lost when the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            let Some(stream) = &mut self.stream else {
                if let Some(pause) = self.pause.take() {
                    tokio::time::sleep(pause).await;
                }
                match self.client.transport().watch(self.request.clone()).await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(status) => match self.broken(Some(status)) {
                        Some(failed) => return failed,
                        None => continue,
                    },
                }
                if self.request.since.is_none() {
                    self.listing = true;
                    return Event::Begin;
                }
                continue;
            };
            match stream.next().await {
                Some(Ok(WatchItem::Put(object))) => {
                    self.passed(object.revision);
                    return Event::Put(object);
                }
                Some(Ok(WatchItem::Delete(object))) => {
                    self.passed(object.revision);
                    return Event::Delete(object);
                }
                Some(Ok(WatchItem::Synced(revision))) => {
                    self.listing = false;
                    self.passed(revision);
                    return Event::Synced;
                }
                Some(Ok(WatchItem::Bookmark(revision))) => self.passed(revision),
                Some(Err(status)) => {
                    if let Some(failed) = self.broken(Some(status)) {
                        return failed;
                    }
                }
                None => {
                    self.broken(None);
                }
            }
        }
    }

    /// Where to continue. A list comes in no order of revisions: it counts when it is complete.
    fn passed(&mut self, revision: u64) {
        if !self.listing {
            self.request.since = self.request.since.max(Some(revision));
            self.next_pause = FIRST_PAUSE;
        }
    }

    /// Prepares the next attempt; what there is to tell about the last one.
    fn broken(&mut self, status: Option<Status>) -> Option<Event> {
        self.stream = None;
        self.pause = Some(self.next_pause);
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
        let status = status?;
        if status.code == 410 {
            debug!(resource = %self.request.resource.resource, "watch expired, listing again");
            self.request.since = None;
            return None;
        }
        Some(Event::Failed(Box::new(status)))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use apimachinery::GroupVersionResource;
    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::transport::{Body, BoxError, Transport};

    type Opened = Result<Vec<Result<WatchItem, Status>>, Status>;

    /// Answers watches one after the other, and writes down after which revision they began.
    struct Scripted {
        answers: Mutex<VecDeque<Opened>>,
        asked: Mutex<Vec<Option<u64>>>,
    }

    #[async_trait]
    impl Transport for Scripted {
        async fn send(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, BoxError> {
            Err("watches only".into())
        }

        async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Status> {
            self.asked.lock().unwrap().push(request.since);
            let answer = self.answers.lock().unwrap().pop_front();
            match answer {
                Some(items) => Ok(futures::stream::iter(items?).boxed()),
                None => Ok(futures::stream::pending().boxed()),
            }
        }
    }

    fn object(revision: u64) -> Arc<Object> {
        let text = format!(
            r#"{{"metadata":{{"name":"a","namespace":"n","uid":"u","resourceVersion":"{revision}"}}}}"#
        );
        let object = Object::parse_index(text.into(), &[] as &[&str]);
        Arc::new(object.unwrap())
    }

    fn failure(code: u16) -> Status {
        Status::failure(code, "Reason", "message")
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_watch_is_continued_and_an_expired_one_begun_anew() {
        let script = Scripted {
            answers: Mutex::new(VecDeque::from([
                Err(failure(503)),
                Ok(vec![Ok(WatchItem::Put(object(7))), Err(failure(500))]),
                Ok(vec![Ok(WatchItem::Put(object(7))), Ok(WatchItem::Synced(9))]),
                Ok(vec![Ok(WatchItem::Bookmark(12))]),
                Ok(vec![Ok(WatchItem::Delete(object(15))), Err(failure(410))]),
                Ok(vec![Ok(WatchItem::Synced(20))]),
            ])),
            asked: Mutex::default(),
        };
        let script = Arc::new(script);
        let request = WatchRequest {
            resource: GroupVersionResource::new("", "v1", "configmaps"),
            namespace: None,
            labels: None,
            fields: None,
            since: None,
        };
        let mut follower = Follower::new(Client::new(script.clone(), "test"), request);
        let mut told = Vec::new();
        while told.len() < 10 {
            told.push(match follower.next().await {
                Event::Begin => "begin".to_owned(),
                Event::Put(object) => format!("put {}", object.revision),
                Event::Delete(object) => format!("delete {}", object.revision),
                Event::Synced => "synced".to_owned(),
                Event::Failed(status) => format!("failed {}", status.code),
            });
        }
        let wanted = [
            "failed 503",
            "begin",
            "put 7",
            "failed 500",
            "begin",
            "put 7",
            "synced",
            "delete 15",
            "begin",
            "synced",
        ];
        assert_eq!(told, wanted);
        let asked = script.asked.lock().unwrap().clone();
        assert_eq!(asked, [None, None, None, Some(9), Some(12), None]);
    }
}
