//! All pods of the node: a worker for each that the API server has bound here or that still runs
//! here, and the way of news to the right one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use apimachinery::Object;
use client::{Change, Informer};
use k8s_openapi::api::core::v1::Pod;
use runtime::RuntimeEvent;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use super::{
    mailbox::{Eviction, Mailbox},
    sandbox,
    worker::Worker,
};
use crate::shared::Shared;

struct Entry {
    mailbox: Arc<Mailbox>,
    /// Ends when this is dropped.
    task: AbortOnDropHandle<()>,
}

/// The workers by pod uid.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(&self, uid: &str) -> Option<Arc<Mailbox>> {
        self.lock().get(uid).map(|entry| entry.mailbox.clone())
    }

    /// Something that the pod refers to has changed.
    pub(crate) fn data_changed(&self, uid: &str) {
        if let Some(mailbox) = self.mailbox(uid) {
            mailbox.leave(|inbox| inbox.data_changed = true);
        }
    }

    /// The kubelet ends a pod.
    #[allow(dead_code, reason = "the seam for eviction under node pressure")]
    pub(crate) fn evict(&self, uid: &str, eviction: Eviction) -> bool {
        match self.mailbox(uid) {
            Some(mailbox) => {
                mailbox.leave(|inbox| inbox.eviction = Some(eviction));
                true
            }
            None => false,
        }
    }

    /// Wakes all workers: something about the node has changed.
    pub(crate) fn wake_all(&self) {
        for entry in self.lock().values() {
            entry.mailbox.wake();
        }
    }

    /// Begins to follow the pods of `pods`. What runs is adopted first.
    pub(crate) fn follow(&self, shared: &Arc<Shared>, pods: &Informer) {
        // Pods that were taken before hold their resources before new ones are measured.
        for object in pods.list() {
            if let Ok(pod) = object.parse::<Pod>()
                && pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
                && !crate::podspec::is_terminal(crate::podspec::PodExt::phase(&pod))
            {
                shared.ledger.insert(&pod);
            }
        }
        let (registry, shared): (_, Weak<Shared>) = (self.clone(), Arc::downgrade(shared));
        pods.on_change(move |change| {
            let Some(shared) = shared.upgrade() else { return };
            match change {
                Change::Put { new, .. } => registry.put(&shared, new),
                Change::Delete(last) => {
                    if let Some(mailbox) = registry.mailbox(&last.uid) {
                        let last = last.clone();
                        mailbox.leave(|inbox| {
                            inbox.object = Some(last);
                            inbox.gone = true;
                        });
                    }
                }
            }
        });
    }

    fn put(&self, shared: &Arc<Shared>, object: &Arc<Object>) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(&*object.uid)
            && !entry.task.is_finished()
        {
            let object = object.clone();
            entry.mailbox.leave(|inbox| inbox.object = Some(object));
            return;
        }
        let mailbox = Arc::new(Mailbox::default());
        let worker = Worker::new(shared.clone(), mailbox.clone(), object.clone());
        let (registry, uid) = (self.clone(), object.uid.to_string());
        let task = tokio::spawn(async move {
            worker.run().await;
            registry.lock().remove(&uid);
        });
        let entry = Entry { mailbox, task: AbortOnDropHandle::new(task) };
        entries.insert(object.uid.to_string(), entry);
    }

    /// Passes on what happens in the runtime, until it ends.
    pub(crate) async fn pass_events(
        self,
        mut events: mpsc::Receiver<RuntimeEvent>,
        stop: CancellationToken,
    ) -> mpsc::Receiver<RuntimeEvent> {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = stop.cancelled() => return events,
            };
            match event {
                Some(RuntimeEvent::ContainerExited { pod_uid, container_id, exit }) => {
                    if let Some(mailbox) = self.mailbox(&pod_uid) {
                        mailbox.leave(|inbox| inbox.lost.push((container_id, exit)));
                    }
                }
                Some(RuntimeEvent::ShimLost { pod_uid }) => {
                    warn!(uid = pod_uid, "shim of the pod is gone");
                    if let Some(mailbox) = self.mailbox(&pod_uid) {
                        mailbox.wake();
                    }
                }
                Some(_) => {}
                None => {
                    stop.cancelled().await;
                    return events;
                }
            }
        }
    }

    /// Removes what is left of pods that nobody knows any more. Called when the pods are known.
    pub(crate) async fn remove_orphans(&self, shared: &Arc<Shared>) {
        for sandbox in shared.runtime.sandboxes() {
            let uid = sandbox.pod_uid().to_owned();
            if self.mailbox(&uid).is_none() {
                info!(uid, pod = sandbox.spec().pod_name, "pod without an object is removed");
                sandbox::remove(shared, &uid, &sandbox).await;
            }
        }
        for uid in shared.folders.known() {
            if self.mailbox(&uid).is_none() {
                let (folders, id) = (shared.folders.clone(), uid.clone());
                let removed = tokio::task::spawn_blocking(move || folders.remove(&id)).await;
                if let Ok(Err(error)) = removed {
                    warn!(uid, %error, "folders of a pod without an object not removed");
                }
            }
        }
    }

    /// The number of workers.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Ends all workers; the pods run on.
    pub(crate) fn stop(&self) {
        self.lock().clear();
    }
}
