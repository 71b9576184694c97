//! Which Services a pod is behind: queues them when the pod or the Service changes. For the
//! controllers of EndpointSlices and Endpoints.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use apimachinery::{Key, Object};
use client::{Change, Informer, WorkQueue, informer::parse_or_warn};
use k8s_openapi::api::core::v1::Service;

/// Selectors by namespace and service, so that a changed pod finds its services without a parse.
type Selectors = HashMap<Box<str>, HashMap<Box<str>, BTreeMap<String, String>>>;

/// Queues every service that changes, and those whose selector matches or matched a pod that
/// changes.
pub(crate) fn queue_services(services: &Informer, pods: &Informer, queue: &Arc<WorkQueue<Key>>) {
    let selectors = Arc::new(RwLock::new(Selectors::new()));
    let (known, adding) = (selectors.clone(), queue.clone());
    services.on_change(move |change| {
        let mut selectors = known.write().unwrap_or_else(PoisonError::into_inner);
        note(&mut selectors, change);
        drop(selectors);
        adding.add(change.object().key.clone());
    });
    let adding = queue.clone();
    pods.on_change(move |change| {
        let selectors = selectors.read().unwrap_or_else(PoisonError::into_inner);
        let pod = change.object();
        let Some(services) = selectors.get(&pod.key.namespace) else { return };
        let before = change.previous().filter(|previous| previous.labels != pod.labels);
        for (service, selector) in services {
            if selects(selector, pod) || before.is_some_and(|before| selects(selector, before)) {
                adding.add(Key::new(pod.key.namespace.clone(), service.clone()));
            }
        }
    });
}

fn note(selectors: &mut Selectors, change: &Change) {
    let key = &change.object().key;
    let selector = match change {
        Change::Put { new, .. } => parse_or_warn::<Service>(new).and_then(|s| selector_of(&s)),
        Change::Delete(_) => None,
    };
    match selector {
        Some(selector) => {
            let services = selectors.entry(key.namespace.clone()).or_default();
            services.insert(key.name.clone(), selector);
        }
        None => {
            let Some(services) = selectors.get_mut(&key.namespace) else { return };
            services.remove(&key.name);
            if services.is_empty() {
                selectors.remove(&key.namespace);
            }
        }
    }
}

/// The labels of the pods behind `service`; nothing where somebody else says what is behind it.
pub(crate) fn selector_of(service: &Service) -> Option<BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.clone().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then_some(selector)
}

/// Whether a pod has all of the labels.
pub(crate) fn selects(selector: &BTreeMap<String, String>, pod: &Object) -> bool {
    selector.iter().all(|(key, value)| pod.label(key) == Some(value))
}
