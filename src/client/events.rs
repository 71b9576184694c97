//! Records Events about objects, as client-go's event recorders do: an event that repeats raises
//! the count of the one before instead of filling the store.
//!
//! There are two forms. Most components write the old one, with a source and two timestamps; the
//! scheduler writes the one of events.k8s.io, with an action and an event time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use crate::{Client, Patch, PatchParams, PostParams};

/// How many events may wait to be written; more are dropped, events being best effort.
const BACKLOG: usize = 1000;
/// How many distinct recent events are remembered to raise their counts.
const REMEMBERED: usize = 1024;

/// Records events of one component. Cheap to clone; recording never waits.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Event>,
    source: Arc<EventSource>,
    /// Who reports, in the form of events.k8s.io.
    instance: Arc<str>,
}

impl Recorder {
    /// A recorder of `component` (and `host`, for node components).
    pub fn new(client: Client, component: &str, host: Option<&str>) -> Self {
        let (queue, events) = mpsc::channel(BACKLOG);
        tokio::spawn(write(client, events));
        let source = EventSource {
            component: Some(component.to_owned()),
            host: host.map(ToOwned::to_owned),
        };
        Self { queue, source: Arc::new(source), instance: host.unwrap_or_default().into() }
    }

    /// A recorder that writes the form of events.k8s.io, through [`Recorder::act`].
    pub fn with_actions(client: Client, component: &str) -> Self {
        Self { instance: format!("{component}-knarr").into(), ..Self::new(client, component, None) }
    }

    /// The same recorder for another component of this process.
    pub fn renamed(&self, component: &str) -> Self {
        let source =
            EventSource { component: Some(component.to_owned()), ..(*self.source).clone() };
        Self { source: Arc::new(source), ..self.clone() }
    }

    /// The component did `action` to `object`, in the form of events.k8s.io. `kind` is `Normal` or
    /// `Warning`.
    pub fn act(
        &self,
        object: &ObjectReference,
        kind: &str,
        reason: &str,
        action: &str,
        message: impl Into<String>,
    ) {
        self.act_for(None, object, kind, reason, action, message);
    }

    /// The same, done for the sake of another object.
    pub fn act_for(
        &self,
        related: Option<ObjectReference>,
        object: &ObjectReference,
        kind: &str,
        reason: &str,
        action: &str,
        message: impl Into<String>,
    ) {
        let event = Event {
            action: Some(action.to_owned()),
            related,
            event_time: Some(MicroTime(Timestamp::now())),
            ..self.event(object, kind, reason, message.into())
        };
        self.send(event);
    }

    /// Something normal happened to `object`.
    pub fn normal(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, "Normal", reason, message.into());
    }

    /// Something went wrong with `object`.
    pub fn warning(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, "Warning", reason, message.into());
    }

    fn record(&self, object: &ObjectReference, kind: &str, reason: &str, message: String) {
        let now = Timestamp::now();
        let event = Event {
            source: Some((*self.source).clone()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..self.event(object, kind, reason, message)
        };
        self.send(event);
    }

    /// What both forms have in common.
    fn event(
        &self,
        object: &ObjectReference,
        kind: &str,
        reason: &str,
        mut message: String,
    ) -> Event {
        // The API server refuses longer messages.
        if message.len() > 1024 {
            let cut = (0..=1021).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        let name = object.name.as_deref().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                // Upstream's form: the nanoseconds make the name unique.
                name: Some(format!("{name}.{:x}", Timestamp::now().as_nanosecond())),
                namespace: Some(object.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            involved_object: object.clone(),
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.instance.to_string()),
            ..Event::default()
        }
    }

    fn send(&self, event: Event) {
        if let Err(error) = self.queue.try_send(event) {
            debug!(%error, "event dropped");
        }
    }
}

/// What makes two events the same, apart from when they happened.
type Same = (String, String, Option<String>, Option<String>, Option<String>);

#[derive(Default)]
struct Memory {
    /// Namespace, name and count of the event that stands for each.
    known: HashMap<Same, (String, String, i32)>,
    order: VecDeque<Same>,
}

async fn write(client: Client, mut events: mpsc::Receiver<Event>) {
    let memory = Mutex::new(Memory::default());
    while let Some(event) = events.recv().await {
        if let Err(error) = write_one(&client, &memory, event).await {
            debug!(%error, "event not written");
        }
    }
}

async fn write_one(
    client: &Client,
    memory: &Mutex<Memory>,
    event: Event,
) -> Result<(), crate::Error> {
    let same: Same = (
        event.involved_object.uid.clone().unwrap_or_default(),
        event.involved_object.field_path.clone().unwrap_or_default(),
        event.type_.clone(),
        event.reason.clone(),
        event.message.clone(),
    );
    let lock = || memory.lock().unwrap_or_else(PoisonError::into_inner);
    let known = lock().known.get(&same).cloned();
    if let Some((namespace, name, count)) = known {
        let patch = match &event.event_time {
            Some(time) => json!({"series": {"count": count + 1, "lastObservedTime": time}}),
            None => json!({"count": count + 1, "lastTimestamp": event.last_timestamp}),
        };
        let api = client.namespaced::<Event>(&namespace);
        match api.patch(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => {
                if let Some((_, _, count)) = lock().known.get_mut(&same) {
                    *count += 1;
                }
                return Ok(());
            }
            // Events expire: then this one starts anew.
            Err(error) if crate::is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    client.namespaced::<Event>(&namespace).create(&PostParams::default(), &event).await?;
    let mut memory = lock();
    if memory.known.insert(same.clone(), (namespace, name, 1)).is_none() {
        memory.order.push_back(same);
        if memory.order.len() > REMEMBERED
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.known.remove(&oldest);
        }
    }
    Ok(())
}

/// A reference to `object`, as events name what they are about.
pub fn reference<K>(object: &K) -> ObjectReference
where
    K: kube_core::Resource<DynamicType = ()>,
{
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
