//! Certificates of pods for projected volumes. For every source of every pod a task makes a key, asks
//! for a certificate with a PodCertificateRequest, waits for the signer and asks again when it is
//! time to. Keys stay in memory: a kubelet that starts anew asks anew.

mod answer;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use client::{Client, Informer, events::Recorder};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCertificateProjection};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    objects::Changed,
    podspec::{PodExt, pod_reference},
};

/// How long a pod waits for its certificates before it is told that they are missing.
const PATIENCE: Duration = Duration::from_secs(3);

/// A private key and its certificates, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) key: String,
    pub(crate) chain: String,
}

/// How far a source has come.
#[derive(Clone, Debug)]
enum State {
    /// Asked for, or about to be. What went wrong last, if something did.
    Pending(Option<String>),
    Issued(Arc<Credentials>),
    /// The signer has refused for good: what a pod is told.
    Refused(String),
}

/// What is asked for, and for whom.
struct Wanted {
    pod: ObjectReference,
    namespace: String,
    name: String,
    uid: String,
    account: String,
    source: PodCertificateProjection,
}

/// What all sources need.
struct Issuer {
    client: Client,
    recorder: Recorder,
    /// This node's own object.
    node: Informer,
    node_name: String,
    changed: Changed,
}

struct Entry {
    state: watch::Receiver<State>,
    /// Ends with the entry.
    _task: AbortOnDropHandle<()>,
}

/// The sources of one pod by volume and place among the volume's sources.
type Sources = HashMap<(String, usize), Entry>;

/// The certificates in use on this node.
pub(crate) struct Certificates {
    issuer: Arc<Issuer>,
    pods: Mutex<HashMap<String, Sources>>,
}

impl Certificates {
    /// None yet. `changed` is called with the uid of a pod when a certificate of it has come.
    pub(crate) fn new(
        client: Client,
        recorder: Recorder,
        node: Informer,
        node_name: &str,
        changed: Changed,
    ) -> Self {
        let node_name = node_name.to_owned();
        let issuer = Issuer { client, recorder, node, node_name, changed };
        Self { issuer: Arc::new(issuer), pods: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sources>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to the certificates of a pod from now on, and waits for them, but not for long.
    pub(crate) async fn ready(&self, pod: &Pod) {
        let waiting = self.track(pod);
        if waiting.is_empty() {
            return;
        }
        let all = async {
            for mut state in waiting {
                let settled = |state: &State| !matches!(state, State::Pending(_));
                let _ = state.wait_for(settled).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }

    fn track(&self, pod: &Pod) -> Vec<watch::Receiver<State>> {
        let wanted = sources(pod);
        if wanted.is_empty() || pod.is_static() {
            return Vec::new();
        }
        let mut pods = self.lock();
        let known = pods.entry(pod.uid().to_owned()).or_default();
        let mut states = Vec::with_capacity(wanted.len());
        for (place, source) in wanted {
            let entry = known.entry(place).or_insert_with(|| self.begin(pod, source));
            states.push(entry.state.clone());
        }
        states
    }

    fn begin(&self, pod: &Pod, source: &PodCertificateProjection) -> Entry {
        let account = pod.spec_or_empty().service_account_name.clone();
        let wanted = Wanted {
            pod: pod_reference(pod),
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            account: account.unwrap_or_default(),
            source: source.clone(),
        };
        let (sender, state) = watch::channel(State::Pending(None));
        let task = tokio::spawn(source::keep(self.issuer.clone(), wanted, sender));
        Entry { state, _task: AbortOnDropHandle::new(task) }
    }

    /// What the source at this place in a volume is to show.
    pub(crate) fn get(
        &self,
        uid: &str,
        volume: &str,
        place: usize,
    ) -> Result<Arc<Credentials>, String> {
        let state = self.lock().get(uid).and_then(|sources| {
            let entry = sources.get(&(volume.to_owned(), place))?;
            Some(entry.state.borrow().clone())
        });
        const PENDING: &str = "credential bundle is not issued yet";
        match state {
            Some(State::Issued(credentials)) => Ok(credentials),
            Some(State::Refused(why)) => Err(why),
            Some(State::Pending(Some(why))) => Err(format!("{PENDING}: {why}")),
            Some(State::Pending(None)) | None => Err(PENDING.to_owned()),
        }
    }

    /// Forgets the keys of a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
}

/// The sources of a pod that are certificates.
fn sources(pod: &Pod) -> Vec<((String, usize), &PodCertificateProjection)> {
    let mut found = Vec::new();
    for volume in pod.spec_or_empty().volumes.iter().flatten() {
        let sources = volume.projected.iter().flat_map(|projected| &projected.sources).flatten();
        for (place, source) in sources.enumerate() {
            if let Some(source) = &source.pod_certificate {
                found.push(((volume.name.clone(), place), source));
            }
        }
    }
    found
}
