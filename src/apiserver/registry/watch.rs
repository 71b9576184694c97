//! Watch: what changes, as it changes, from a given revision or from the objects that exist.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use apimachinery::{Draft, Object, Status};
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use http::{StatusCode, header};
use rand::RngExt;
use storage::{Event, EventKind, Watch};
use tokio::time::{Instant, Sleep};

use crate::{
    Shared,
    http::{
        accept::{Media, SUPPORTED_STREAMS},
        body::{Body, BoxError, Response},
    },
    registry::{
        Call,
        answer::{self, Representation},
        convert,
        get::future_revision,
        list,
        options::ListOptions,
        resource::Endpoint,
        selection::Selection,
    },
};

/// Annotation of the bookmark behind the objects that existed when the watch began.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// How often a client that understands bookmarks is told where it is.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// A watch without a timeout ends after this long, or up to twice as long.
const LONGEST: Duration = Duration::from_secs(1800);
/// Events are joined up to about this many bytes.
const CHUNK: usize = 32 << 10;

/// What a watcher learns.
#[derive(Clone, Debug)]
pub enum Occurrence {
    /// The object came into the selection.
    Added(Arc<Object>),
    /// The object changed within the selection.
    Modified(Arc<Object>),
    /// The object left the selection, or the store.
    Deleted(Arc<Object>),
    /// Everything up to this revision has been told; `true` right after the objects that existed.
    Bookmark(u64, bool),
}

/// A selection of a collection's events.
pub struct Source {
    selection: Selection,
    /// Set where the selection looks inside: how to see objects as the client does.
    view: Option<View>,
    watch: Watch,
    /// An event that was taken from the watch and is not told yet.
    pending: Option<Event>,
    /// Objects that existed, still to be told.
    initial: VecDeque<Arc<Object>>,
    /// The bookmark to tell after them.
    synced: Option<u64>,
}

/// The version in which objects are looked at.
struct View {
    server: Arc<Shared>,
    endpoint: Endpoint,
}

impl Source {
    /// Begins to watch.
    ///
    /// # Errors
    /// 410 when the history does not reach back to the revision asked for, 504 when that has not
    /// been reached yet; the Status of a conversion webhook that failed.
    pub async fn open(
        server: &Shared,
        endpoint: &Endpoint,
        selection: Selection,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let current = server.store.revision();
        let view = selection
            .looks_inside()
            .then(|| View { server: server.arc(), endpoint: endpoint.clone() });
        let Some(collection) = endpoint.resource.collection.as_ref() else {
            return Err(Status::method_not_allowed(&endpoint.resource.group_resource, "watch"));
        };
        let legacy =
            options.send_initial_events.is_none() && matches!(options.revision, None | Some(0));
        let with_initial = legacy || options.send_initial_events == Some(true);
        if with_initial {
            if let Some(asked) = options.revision.filter(|asked| *asked > current) {
                return Err(future_revision(asked, current));
            }
            let snapshot = collection.snapshot();
            let watch = collection
                .watch(snapshot.revision())
                .map_err(|expired| Status::too_old(snapshot.revision(), expired.oldest))?;
            let initial = list::selected(server, endpoint, &snapshot, &selection, None).await?;
            let synced = options.bookmarks.then_some(snapshot.revision());
            return Ok(Self {
                selection,
                view,
                watch,
                pending: None,
                initial: initial.into(),
                synced,
            });
        }
        let since = match options.revision {
            None | Some(0) => collection.snapshot().revision(),
            Some(since) => since,
        };
        let watch =
            collection.watch(since).map_err(|expired| Status::too_old(since, expired.oldest))?;
        let initial = VecDeque::new();
        Ok(Self { selection, view, watch, pending: None, initial, synced: None })
    }

    /// The next occurrence; waits for one. Safe to drop while waiting.
    ///
    /// # Errors
    /// 410 when the watcher was too slow.
    pub async fn next(&mut self) -> Result<Occurrence, Status> {
        loop {
            if let Some(ready) = self.try_next().await? {
                return Ok(ready);
            }
            let event = self.watch.next().await;
            let event =
                event.map_err(|gone| Status::too_old(self.watch.delivered(), gone.oldest))?;
            self.pending = Some(event);
        }
    }

    /// The next occurrence if there is one already. Safe to drop while waiting for a conversion.
    ///
    /// # Errors
    /// 410 when the watcher was too slow; the Status of a conversion webhook that failed.
    pub async fn try_next(&mut self) -> Result<Option<Occurrence>, Status> {
        if let Some(object) = self.initial.pop_front() {
            return Ok(Some(Occurrence::Added(object)));
        }
        if let Some(revision) = self.synced.take() {
            return Ok(Some(Occurrence::Bookmark(revision, true)));
        }
        loop {
            if self.pending.is_none() {
                let event = self.watch.try_next();
                self.pending =
                    event.map_err(|gone| Status::too_old(self.watch.delivered(), gone.oldest))?;
            }
            let Some(event) = &self.pending else { return Ok(None) };
            // It stays pending until that has an end: who waits may be dropped.
            let seen = match &self.view {
                Some(view) => Some(view.see(event).await?),
                None => None,
            };
            let Some(event) = seen.or_else(|| self.pending.take()) else { return Ok(None) };
            self.pending = None;
            if let Some(occurrence) = self.judge(event) {
                return Ok(Some(occurrence));
            }
        }
    }

    /// Up to where everything has been told.
    pub fn delivered(&self) -> u64 {
        self.watch.delivered()
    }

    /// What an event is to this selection: an object that begins to match is added, one that no
    /// longer does is deleted, whatever happened to it really.
    fn judge(&self, event: Event) -> Option<Occurrence> {
        let matched = event.previous.as_ref().is_some_and(|object| self.selection.matches(object));
        if event.kind == EventKind::Deleted {
            let meant = matched || self.selection.matches(&event.object);
            return meant.then_some(Occurrence::Deleted(event.object));
        }
        match (matched, self.selection.matches(&event.object)) {
            (true, true) => Some(Occurrence::Modified(event.object)),
            (false, true) => Some(Occurrence::Added(event.object)),
            (true, false) => {
                let last = event.previous.as_ref().and_then(|last| at(last, event.revision));
                Some(Occurrence::Deleted(last.unwrap_or(event.object)))
            }
            (false, false) => None,
        }
    }
}

impl View {
    /// An event whose objects are of the version of the view.
    async fn see(&self, event: &Event) -> Result<Event, Status> {
        let stored = [Some(event.object.clone()), event.previous.clone()];
        let stored = stored.into_iter().flatten().collect();
        let seen = convert::present(&self.server, &self.endpoint, stored).await?;
        let mut seen = seen.into_iter();
        let lost = || Status::internal("conversion lost an object");
        let object = seen.next().ok_or_else(lost)?;
        Ok(Event { object, previous: seen.next(), ..event.clone() })
    }
}

/// `object` as if it had been written at `revision`: the last state that a watcher may see of an
/// object which left its selection, at the revision at which it left.
fn at(object: &Object, revision: u64) -> Option<Arc<Object>> {
    let value = object.value().ok()?;
    Some(Draft::new(&value, &[] as &[&str]).ok()?.seal(revision))
}

/// Answers a watch.
///
/// # Errors
/// The Status that refuses it; later ones come as events of type ERROR.
pub async fn watch(call: &Call<'_>, options: &ListOptions) -> Result<Response, Status> {
    let selection = Selection::new(&call.endpoint, call.namespace(), &call.info.name, options)?;
    let media = call.format.media;
    if media == Media::Yaml {
        return Err(Status::not_acceptable(&SUPPORTED_STREAMS));
    }
    // An event is a line, also for people.
    let representation = Representation::of(call)?.compact();
    let source = Source::open(call.server, &call.endpoint, selection, options).await?;
    let timeout = match options.timeout {
        Some(seconds) => Duration::from_secs(seconds),
        None => LONGEST.mul_f64(1.0 + rand::rng().random::<f64>()),
    };
    let feed = Feed {
        source,
        representation,
        server: call.server.arc(),
        end: Box::pin(tokio::time::sleep(timeout)),
        bookmark: options.bookmarks.then(|| Box::pin(tokio::time::sleep(BOOKMARKS))),
        told: 0,
        done: false,
    };
    let content_type = match media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let mut response = Response::new(Body::stream(feed.stream()));
    *response.status_mut() = StatusCode::OK;
    let value = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    Ok(response)
}

/// A watch on its way to a client.
struct Feed {
    source: Source,
    representation: Representation,
    server: Arc<Shared>,
    end: std::pin::Pin<Box<Sleep>>,
    bookmark: Option<std::pin::Pin<Box<Sleep>>>,
    /// The last revision that the client knows of.
    told: u64,
    done: bool,
}

impl Feed {
    fn stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
        stream::unfold(self, |mut feed| async move {
            let chunk = feed.chunk().await?;
            Some((Ok(chunk), feed))
        })
    }

    async fn chunk(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.is_empty() {
            if self.done {
                return None;
            }
            let occurrence = tokio::select! {
                biased;
                () = self.server.stop.cancelled() => return None,
                occurrence = self.source.next() => occurrence,
                () = self.end.as_mut() => {
                    self.done = true;
                    self.tell_place(&mut out).await;
                    continue;
                }
                () = alarm(&mut self.bookmark) => {
                    self.tell_place(&mut out).await;
                    if let Some(alarm) = &mut self.bookmark {
                        alarm.as_mut().reset(Instant::now() + BOOKMARKS);
                    }
                    continue;
                }
            };
            let mut next = occurrence.map(Some);
            loop {
                match next {
                    Ok(None) => break,
                    Ok(Some(occurrence)) => self.write(occurrence, &mut out).await,
                    Err(status) => {
                        self.done = true;
                        answer::write_error_event(&self.representation, &status, &mut out);
                        break;
                    }
                }
                if out.len() >= CHUNK {
                    break;
                }
                next = self.source.try_next().await;
            }
        }
        Some(out.freeze())
    }

    /// A bookmark, where the client wants them and does not know the place already.
    async fn tell_place(&mut self, out: &mut BytesMut) {
        // Looking for an event moves the place on when there is none.
        loop {
            match self.source.try_next().await {
                Ok(Some(occurrence)) => self.write(occurrence, out).await,
                Ok(None) => break,
                // Whoever looks next learns of it; until then the place stays.
                Err(_) => return,
            }
        }
        let place = self.source.delivered();
        if self.bookmark.is_some() && place > self.told {
            self.write(Occurrence::Bookmark(place, false), out).await;
        }
    }

    async fn write(&mut self, occurrence: Occurrence, out: &mut BytesMut) {
        let (kind, object) = match occurrence {
            Occurrence::Added(object) => ("ADDED", object),
            Occurrence::Modified(object) => ("MODIFIED", object),
            Occurrence::Deleted(object) => ("DELETED", object),
            Occurrence::Bookmark(revision, synced) => {
                self.told = revision;
                let annotation = synced.then_some(INITIAL_EVENTS_END);
                answer::write_bookmark(&mut self.representation, revision, annotation, out);
                return;
            }
        };
        self.told = self.told.max(object.revision);
        match self.representation.present(&self.server, vec![object]).await {
            Ok(objects) => {
                for object in &objects {
                    answer::write_event(&mut self.representation, kind, object, out);
                }
            }
            Err(status) => {
                self.done = true;
                answer::write_error_event(&self.representation, &status, out);
            }
        }
    }
}

async fn alarm(timer: &mut Option<std::pin::Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}
