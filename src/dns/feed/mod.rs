//! The agent's side: follows Services and EndpointSlices and tells an edge what has changed.

mod convert;

use std::fmt;
use std::sync::Arc;

use apimachinery::{Key, Object};
use client::informer::parse_or_warn;
use client::{Informer, Informers, WorkQueue};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::mpsc;

pub use convert::{needs_endpoints, service_record};

use crate::model::Update;

/// The label of an EndpointSlice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Index of slices by `namespace/service`.
const BY_SERVICE: &str = "slices-by-service";

/// What of the cluster DNS depends on.
///
/// Made once in a process, for informers do not forget who listens; [`Feed::run`] serves one edge
/// after the other.
pub struct Feed {
    services: Informer,
    slices: Informer,
    queue: Arc<WorkQueue<Changed>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Changed {
    Service(Key),
    /// Only the endpoints, which matter to headless services alone.
    Endpoints(Key),
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    /// Begins to follow the objects.
    pub fn new(informers: &Informers) -> Arc<Self> {
        let services = informers.of::<Service>();
        let slices = informers.of::<EndpointSlice>();
        let queue = Arc::new(WorkQueue::new());
        slices.add_index(BY_SERVICE, |slice| {
            service_of(slice).map(|key| key.to_string().into()).into_iter().collect()
        });
        let adding = queue.clone();
        services.on_change(move |change| adding.add(Changed::Service(change.object().key.clone())));
        let adding = queue.clone();
        slices.on_change(move |change| {
            // A slice may have been given to another service.
            for slice in change.previous().into_iter().chain([change.object()]) {
                if let Some(key) = service_of(slice) {
                    adding.add(Changed::Endpoints(key));
                }
            }
        });
        Arc::new(Self { services, slices, queue })
    }

    /// Sends all records, [`Update::Synced`], and then every change, until the receiver is gone.
    /// It must not run more than once at a time.
    pub async fn run(&self, sender: mpsc::Sender<Update>) {
        tokio::select! {
            () = self.send(&sender) => {}
            () = sender.closed() => {}
        }
    }

    async fn send(&self, sender: &mpsc::Sender<Update>) {
        Informers::synced(&[&self.services, &self.slices]).await;
        for service in self.services.list() {
            if let Some(record) = self.record(&service)
                && sender.send(Update::Upsert(record)).await.is_err()
            {
                return;
            }
        }
        if sender.send(Update::Synced).await.is_err() {
            return;
        }
        // What changed in the meantime is in the queue.
        while let Some(changed) = self.queue.next().await {
            let update = self.update(&changed);
            self.queue.done(&changed);
            if let Some(update) = update
                && sender.send(update).await.is_err()
            {
                return;
            }
        }
    }

    fn update(&self, changed: &Changed) -> Option<Update> {
        let (Changed::Service(key) | Changed::Endpoints(key)) = changed;
        let service = self.services.get(key);
        if matches!(changed, Changed::Endpoints(_)) {
            let service: Service = parse_or_warn(service.as_deref()?)?;
            if !needs_endpoints(&service) {
                return None;
            }
        }
        match service.and_then(|service| self.record(&service)) {
            Some(record) => Some(Update::Upsert(record)),
            None => {
                let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
                Some(Update::Remove { namespace, name })
            }
        }
    }

    fn record(&self, object: &Object) -> Option<crate::model::Record> {
        let service: Service = parse_or_warn(object)?;
        let slices: Vec<EndpointSlice> = if needs_endpoints(&service) {
            let slices = self.slices.indexed(BY_SERVICE, &object.key.to_string());
            slices.iter().filter_map(|slice| parse_or_warn(slice)).collect()
        } else {
            Vec::new()
        };
        service_record(&service, &slices)
    }
}

fn service_of(slice: &Object) -> Option<Key> {
    Some(Key::new(slice.key.namespace.clone(), slice.label(SERVICE_NAME)?))
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
