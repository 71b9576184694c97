//! The ConfigMaps and Secrets that the pods of this node refer to, each followed by a watch of its
//! own for as long as some pod refers to it: a node may see no others, and need not.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apimachinery::{GroupVersionResource, Object};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, Event, Follower, WatchRequest};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::podspec::{PodExt, plain};

/// How long a pod waits for an object that cannot be read before it is told why.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    ConfigMap,
    Secret,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) source: Source,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The contents of a ConfigMap or Secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    /// What counts as text, and with it as environment variables.
    text: BTreeMap<String, Vec<u8>>,
    /// `binaryData` of a ConfigMap.
    binary: BTreeMap<String, Vec<u8>>,
    /// `type` of a Secret.
    pub(crate) kind: String,
}

impl Data {
    /// The entries that can be environment variables.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        self.text.iter().map(|(k, v)| (k.as_str(), String::from_utf8_lossy(v).into_owned()))
    }

    /// One entry as text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.text.get(key).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// One entry as it is.
    pub(crate) fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.text.get(key).or_else(|| self.binary.get(key)).map(Vec::as_slice)
    }

    /// All entries as they are.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.text.iter().chain(&self.binary).map(|(k, v)| (k.as_str(), v.as_slice()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    binary_data: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    immutable: Option<bool>,
}

fn decode(source: Source, object: &Object) -> Result<Data, String> {
    let body: Body = object.parse().map_err(|error| error.to_string())?;
    let binary = |map: Option<BTreeMap<String, String>>| -> Result<BTreeMap<_, _>, String> {
        map.unwrap_or_default()
            .into_iter()
            .map(|(key, text)| {
                let bytes = STANDARD.decode(&text).map_err(|error| format!("{key}: {error}"))?;
                Ok((key, bytes))
            })
            .collect()
    };
    Ok(match source {
        Source::ConfigMap => Data {
            text: body
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, text)| (key, text.into_bytes()))
                .collect(),
            binary: binary(body.binary_data)?,
            kind: String::new(),
        },
        Source::Secret => {
            Data { text: binary(body.data)?, binary: BTreeMap::new(), kind: body.kind }
        }
    })
}

#[derive(Clone, Debug)]
enum Slot {
    /// The watch has not said anything yet.
    Unknown,
    /// It was refused, for now.
    Refused(String),
    Absent,
    Present(Arc<Object>),
}

struct Entry {
    slot: watch::Sender<Slot>,
    pods: Mutex<HashSet<String>>,
    /// Ends with the entry; absent until the entry is in the table.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Called with the uid of a pod when something that it refers to has changed.
pub(crate) type Changed = Arc<dyn Fn(&str) + Send + Sync>;

/// The objects that pods of this node refer to.
pub(crate) struct Objects {
    client: Client,
    changed: Changed,
    entries: Mutex<HashMap<Reference, Arc<Entry>>>,
    by_pod: Mutex<HashMap<String, HashSet<Reference>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Objects {
    pub(crate) fn new(client: Client, changed: Changed) -> Self {
        Self { client, changed, entries: Mutex::default(), by_pod: Mutex::default() }
    }

    /// Follows what `pod` refers to from now on, and nothing else on its behalf.
    pub(crate) fn register(&self, pod: &Pod) {
        let wanted: HashSet<Reference> = references(pod).into_iter().collect();
        let uid = pod.uid();
        let before = {
            let mut by_pod = lock(&self.by_pod);
            if wanted.is_empty() {
                by_pod.remove(uid).unwrap_or_default()
            } else {
                by_pod.insert(uid.to_owned(), wanted.clone()).unwrap_or_default()
            }
        };
        for reference in wanted.difference(&before) {
            lock(&self.entry(reference).pods).insert(uid.to_owned());
        }
        self.release(uid, before.difference(&wanted));
    }

    /// Follows nothing on behalf of a pod any more.
    pub(crate) fn unregister(&self, uid: &str) {
        let before = lock(&self.by_pod).remove(uid).unwrap_or_default();
        self.release(uid, before.iter());
    }

    fn release<'a>(&self, uid: &str, references: impl Iterator<Item = &'a Reference>) {
        let mut entries = lock(&self.entries);
        for reference in references {
            let Some(entry) = entries.get(reference) else { continue };
            let mut pods = lock(&entry.pods);
            pods.remove(uid);
            let unused = pods.is_empty();
            drop(pods);
            if unused {
                entries.remove(reference);
            }
        }
    }

    fn entry(&self, reference: &Reference) -> Arc<Entry> {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get(reference) {
            return entry.clone();
        }
        let entry = Arc::new(Entry {
            slot: watch::Sender::new(Slot::Unknown),
            pods: Mutex::default(),
            task: Mutex::default(),
        });
        entries.insert(reference.clone(), entry.clone());
        drop(entries);
        let (client, changed) = (self.client.clone(), self.changed.clone());
        let follow = follow(client, changed, reference.clone(), Arc::downgrade(&entry));
        *lock(&entry.task) = Some(AbortOnDropHandle::new(tokio::spawn(follow)));
        entry
    }

    /// The contents of a ConfigMap; `None` when it does not exist and is optional.
    pub(crate) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<Data>, String> {
        self.get(Source::ConfigMap, namespace, name, optional).await
    }

    /// The contents of a Secret; `None` when it does not exist and is optional.
    pub(crate) async fn secret(
        &self,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<Data>, String> {
        self.get(Source::Secret, namespace, name, optional).await
    }

    async fn get(
        &self,
        source: Source,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<Data>, String> {
        let reference =
            Reference { source, namespace: namespace.to_owned(), name: name.to_owned() };
        let entry = self.entry(&reference);
        let mut slot = entry.slot.subscribe();
        let known = |slot: &Slot| matches!(slot, Slot::Absent | Slot::Present(_));
        let settled = tokio::time::timeout(PATIENCE, slot.wait_for(known)).await;
        let found = match settled {
            Ok(Ok(slot)) => slot.clone(),
            _ => entry.slot.borrow().clone(),
        };
        let kind = match source {
            Source::ConfigMap => "configmap",
            Source::Secret => "secret",
        };
        match found {
            Slot::Present(object) => decode(source, &object).map(Some),
            Slot::Absent if optional => Ok(None),
            Slot::Absent => Err(format!("{kind} {name:?} not found")),
            Slot::Refused(why) => Err(why),
            Slot::Unknown => {
                Err(format!("failed to sync {kind} cache: timed out waiting for the condition"))
            }
        }
    }
}

async fn follow(
    client: Client,
    changed: Changed,
    reference: Reference,
    entry: std::sync::Weak<Entry>,
) {
    let resource = match reference.source {
        Source::ConfigMap => GroupVersionResource::new("", "v1", "configmaps"),
        Source::Secret => GroupVersionResource::new("", "v1", "secrets"),
    };
    let request = WatchRequest {
        resource,
        namespace: Some(reference.namespace.clone()),
        labels: None,
        fields: Some(format!("metadata.name={}", reference.name)),
        since: None,
    };
    let mut follower = Follower::new(client, request);
    let mut seen = false;
    loop {
        let slot = match follower.next().await {
            Event::Begin => {
                seen = false;
                continue;
            }
            Event::Put(object) => {
                seen = true;
                Slot::Present(object)
            }
            Event::Delete(_) => Slot::Absent,
            Event::Synced if !seen => Slot::Absent,
            Event::Synced => continue,
            Event::Failed(status) => {
                debug!(name = %reference.name, error = %status, "watch refused");
                Slot::Refused(status.message)
            }
        };
        let immutable = match &slot {
            Slot::Present(object) => object.parse().is_ok_and(|b: Body| b.immutable == Some(true)),
            _ => false,
        };
        let Some(entry) = entry.upgrade() else { return };
        entry.put(slot, &changed);
        if immutable {
            // It cannot change, so there is nothing more to follow.
            return;
        }
    }
}

impl Entry {
    /// Takes in what was learned, and tells the pods when it is something new.
    fn put(&self, slot: Slot, changed: &Changed) {
        let mut news = false;
        self.slot.send_if_modified(|known| {
            news = match (&*known, &slot) {
                (Slot::Present(a), Slot::Present(b)) => a.revision != b.revision,
                (Slot::Absent, Slot::Absent) => return false,
                // While the server is away, what it said last holds.
                (Slot::Present(_) | Slot::Absent, Slot::Refused(_)) => return false,
                (Slot::Refused(_), Slot::Refused(_)) => false,
                // The first answer is waited for by those who asked.
                (Slot::Unknown, _) => false,
                _ => true,
            };
            *known = slot;
            true
        });
        if news {
            let pods: Vec<String> = lock(&self.pods).iter().cloned().collect();
            pods.iter().for_each(|uid| changed(uid));
        }
    }
}

/// The ConfigMaps and Secrets that a pod refers to.
pub(crate) fn references(pod: &Pod) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut add = |source, name: &str| {
        if !name.is_empty() {
            let namespace = pod.namespace().to_owned();
            found.push(Reference { source, namespace, name: name.to_owned() });
        }
    };
    let spec = pod.spec_or_empty();
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(Source::Secret, &secret.name);
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            add(Source::ConfigMap, &source.name);
        }
        if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.as_deref()) {
            add(Source::Secret, name);
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                add(Source::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret {
                add(Source::Secret, &source.name);
            }
        }
    }
    let ephemeral: Vec<Container> = pod.ephemeral_containers().iter().map(plain).collect();
    for container in pod.containers().iter().chain(pod.init_containers()).chain(&ephemeral) {
        for EnvFromSource { config_map_ref, secret_ref, .. } in container.env_from.iter().flatten()
        {
            if let Some(reference) = config_map_ref {
                add(Source::ConfigMap, &reference.name);
            }
            if let Some(reference) = secret_ref {
                add(Source::Secret, &reference.name);
            }
        }
        for EnvVar { value_from, .. } in container.env.iter().flatten() {
            let Some(source) = value_from else { continue };
            if let Some(reference) = &source.config_map_key_ref {
                add(Source::ConfigMap, &reference.name);
            }
            if let Some(reference) = &source.secret_key_ref {
                add(Source::Secret, &reference.name);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
