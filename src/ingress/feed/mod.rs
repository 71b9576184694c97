//! The agent's side: follows Ingresses and what they name, and tells an edge what has changed.
//!
//! Only what an Ingress of ours names is told, and of the Secrets only those of type
//! `kubernetes.io/tls` are read at all.

mod convert;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use apimachinery::{Key, Object};
use client::informer::{Change, parse_or_warn};
use client::{Informer, Informers, Scope, WorkQueue};
use k8s_openapi::api::core::v1::{Secret, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress as IngressObject, IngressClass};
use tokio::sync::mpsc;

pub use convert::{
    CONTROLLER, Classes, certificate, ingress, secret_names, service, service_names,
};

use crate::model::{Certificate, Update};

/// The label of an EndpointSlice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Index of slices by `namespace/service`.
const BY_SERVICE: &str = "slices-by-service";
/// Index of Ingresses by the `namespace/service` that they name.
const NAMES_SERVICE: &str = "ingresses-by-service";
/// Index of Ingresses by the `namespace/secret` that they name.
const NAMES_SECRET: &str = "ingresses-by-secret";

/// What the Ingress rules depend on.
///
/// Made once in a process, for informers do not forget who listens; [`Feed::run`] serves one edge
/// after the other.
pub struct Feed {
    ingresses: Informer,
    classes: Informer,
    services: Informer,
    slices: Informer,
    secrets: Informer,
    default_certificate: Option<Certificate>,
    queue: Arc<WorkQueue<Changed>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Changed {
    Service(Key),
    Secret(Key),
    Ingress(Key),
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    /// Begins to follow the objects. The certificate is for hosts that have none of their own.
    pub fn new(informers: &Informers, default_certificate: Option<Certificate>) -> Arc<Self> {
        let tls_only = Scope::fields("type=kubernetes.io/tls");
        let feed = Arc::new(Self {
            ingresses: informers.of::<IngressObject>(),
            classes: informers.of::<IngressClass>(),
            services: informers.of::<ServiceObject>(),
            slices: informers.of::<EndpointSlice>(),
            secrets: informers.scoped::<Secret>(tls_only),
            default_certificate,
            queue: Arc::new(WorkQueue::new()),
        });
        feed.slices.add_index(BY_SERVICE, |slice| {
            service_of(slice).map(|key| key.to_string().into()).into_iter().collect()
        });
        feed.ingresses.add_index(NAMES_SERVICE, |object| named(object, &service_names));
        feed.ingresses.add_index(NAMES_SECRET, |object| named(object, &secret_names));

        let queue = feed.queue.clone();
        feed.services.on_change(move |change| {
            queue.add(Changed::Service(change.object().key.clone()));
        });
        let queue = feed.queue.clone();
        feed.slices.on_change(move |change| {
            for key in versions(change).filter_map(service_of) {
                queue.add(Changed::Service(key));
            }
        });
        let queue = feed.queue.clone();
        feed.secrets.on_change(move |change| {
            queue.add(Changed::Secret(change.object().key.clone()));
        });
        let queue = feed.queue.clone();
        feed.ingresses.on_change(move |change| versions(change).for_each(|o| touch(&queue, o)));
        // A class that comes or goes may concern every Ingress. There are a handful of them, and
        // they change once in the life of a cluster.
        let (queue, ingresses) = (feed.queue.clone(), feed.ingresses.clone());
        feed.classes
            .on_change(move |_| ingresses.list().iter().for_each(|object| touch(&queue, object)));
        feed
    }

    /// Sends all rules, [`Update::Synced`], and then every change, until the receiver is gone. It
    /// must not run more than once at a time.
    pub async fn run(&self, sender: mpsc::Sender<Update>) {
        tokio::select! {
            _receiver_gone = self.send(&sender) => {}
            () = sender.closed() => {}
        }
    }

    async fn send(
        &self,
        sender: &mpsc::Sender<Update>,
    ) -> Result<(), mpsc::error::SendError<Update>> {
        let all = [&self.ingresses, &self.classes, &self.services, &self.slices, &self.secrets];
        Informers::synced(&all).await;
        if let Some(certificate) = &self.default_certificate {
            sender.send(Update::DefaultCertificate(certificate.clone())).await?;
        }
        // What is named comes before who names it, so that no request finds a rule without.
        let mut services = BTreeSet::new();
        let mut secrets = BTreeSet::new();
        let mut ingresses = Vec::new();
        for ingress in self.ours() {
            let key = |name: &str| Key::new(ingress.namespace.as_str(), name);
            services.extend(service_names(&ingress).into_iter().map(key));
            secrets.extend(secret_names(&ingress).into_iter().map(key));
            ingresses.push(key(&ingress.name));
        }
        let services = services.into_iter().map(Changed::Service);
        let secrets = secrets.into_iter().map(Changed::Secret);
        let ingresses = ingresses.into_iter().map(Changed::Ingress);
        let mut told = HashSet::new();
        for thing in services.chain(secrets).chain(ingresses) {
            if let Some(update) = self.update(&thing, &mut told) {
                sender.send(update).await?;
            }
        }
        sender.send(Update::Synced).await?;
        // What changed in the meantime is in the queue.
        while let Some(changed) = self.queue.next().await {
            let update = self.update(&changed, &mut told);
            self.queue.done(&changed);
            if let Some(update) = update {
                sender.send(update).await?;
            }
        }
        Ok(())
    }

    fn classes(&self) -> Classes {
        let classes: Vec<IngressClass> =
            self.classes.list().iter().filter_map(|class| parse_or_warn(class)).collect();
        Classes::of(&classes)
    }

    fn ours(&self) -> Vec<crate::model::Ingress> {
        let classes = self.classes();
        let parse = |object: &Arc<Object>| parse_or_warn::<IngressObject>(object);
        let ours = self.ingresses.list();
        let ours = ours.iter().filter_map(parse).filter(|object| classes.contain(object));
        ours.filter_map(|object| ingress(&object)).collect()
    }

    /// Whether an Ingress of ours is filed under a name.
    fn is_named(&self, index: &'static str, key: &Key) -> bool {
        let naming = self.ingresses.indexed(index, &key.to_string());
        if naming.is_empty() {
            return false;
        }
        let classes = self.classes();
        naming.iter().filter_map(|o| parse_or_warn(o)).any(|object| classes.contain(&object))
    }

    /// What to tell about a change. `told` is what the edge has of us.
    fn update(&self, changed: &Changed, told: &mut HashSet<Changed>) -> Option<Update> {
        let present = match changed {
            Changed::Service(key) => {
                if self.is_named(NAMES_SERVICE, key) {
                    self.service(key)
                } else {
                    None
                }
            }
            Changed::Secret(key) => {
                if self.is_named(NAMES_SECRET, key) {
                    self.certificate(key)
                } else {
                    None
                }
            }
            Changed::Ingress(key) => self.ingress(key),
        };
        if present.is_some() {
            told.insert(changed.clone());
            return present;
        }
        if !told.remove(changed) {
            return None;
        }
        let (Changed::Service(key) | Changed::Secret(key) | Changed::Ingress(key)) = changed;
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        Some(match changed {
            Changed::Service(_) => Update::RemoveService { namespace, name },
            Changed::Secret(_) => Update::RemoveCertificate { namespace, name },
            Changed::Ingress(_) => Update::RemoveIngress { namespace, name },
        })
    }

    fn ingress(&self, key: &Key) -> Option<Update> {
        let object = self.ingresses.get_as::<IngressObject>(&key.namespace, &key.name)?;
        if !self.classes().contain(&object) {
            return None;
        }
        ingress(&object).map(Update::Ingress)
    }

    fn service(&self, key: &Key) -> Option<Update> {
        let object: ServiceObject = parse_or_warn(self.services.get(key)?.as_ref())?;
        let slices = self.slices.indexed(BY_SERVICE, &key.to_string());
        let slices: Vec<EndpointSlice> =
            slices.iter().filter_map(|slice| parse_or_warn(slice)).collect();
        service(&object, &slices).map(Update::Service)
    }

    fn certificate(&self, key: &Key) -> Option<Update> {
        let secret: Secret = parse_or_warn(self.secrets.get(key)?.as_ref())?;
        certificate(&secret).map(Update::Certificate)
    }
}

/// Queues an Ingress and everything that it names.
fn touch(queue: &WorkQueue<Changed>, object: &Object) {
    let Some(parsed) = parse_or_warn::<IngressObject>(object).and_then(|o| ingress(&o)) else {
        return queue.add(Changed::Ingress(object.key.clone()));
    };
    let key = |name: &str| Key::new(object.key.namespace.clone(), name);
    for name in service_names(&parsed) {
        queue.add(Changed::Service(key(name)));
    }
    for name in secret_names(&parsed) {
        queue.add(Changed::Secret(key(name)));
    }
    queue.add(Changed::Ingress(object.key.clone()));
}

/// The object after and before a change: what is new is told before the old is taken away.
fn versions(change: &Change) -> impl Iterator<Item = &Object> {
    [change.object()].into_iter().chain(change.previous()).map(AsRef::as_ref)
}

fn named(
    object: &Object,
    names: &dyn for<'a> Fn(&'a crate::model::Ingress) -> BTreeSet<&'a str>,
) -> Vec<Box<str>> {
    let parsed = parse_or_warn::<IngressObject>(object).and_then(|object| ingress(&object));
    let key = |name: &str| Key::new(object.key.namespace.clone(), name).to_string().into();
    parsed.iter().flat_map(names).map(key).collect()
}

fn service_of(slice: &Object) -> Option<Key> {
    Some(Key::new(slice.key.namespace.clone(), slice.label(SERVICE_NAME)?))
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
