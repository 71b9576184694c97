//! ResourceQuota: counts anew what the objects of a namespace use.
//!
//! Admission charges a quota before an object is written; this puts right what it cannot know:
//! limits that changed, objects that went or came to use less, and writes that failed afterwards.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use apimachinery::{GroupResource, GroupVersionResource, Key, Object};
use client::{
    Change, Informer, Patch, PatchParams, Scope, WorkQueue,
    controller::{Action, ReconcileError},
    is_not_found,
};
use k8s_openapi::api::core::v1::ResourceQuota;
use quota::{Amounts, amounts};
use serde_json::{Value, json};
use tracing::warn;

use crate::{
    Context,
    resources::{self, Kind},
};

/// Resources that are never counted.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// A charge whose write failed is given back after this long at the latest.
const RESYNC: Duration = Duration::from_secs(300);

struct Controller {
    context: Context,
    quotas: Informer,
    /// Resources that can be counted.
    kinds: RwLock<Vec<Kind>>,
    /// Those that some quota counts.
    followed: Mutex<HashMap<GroupVersionResource, Informer>>,
    queue: Arc<WorkQueue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        quotas: context.informers.of::<ResourceQuota>(),
        kinds: RwLock::default(),
        followed: Mutex::default(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    let queue = controller.queue.clone();
    controller.quotas.on_change(move |change| {
        // Its status alone is what admission or this has just written.
        let new = change.object();
        if change.previous().is_none_or(|old| spec_of(old) != spec_of(new)) {
            queue.add(new.key.clone());
        }
    });
    let changed = Arc::new(tokio::sync::Notify::new());
    let waking = changed.clone();
    resources::definitions(&controller.context.informers).on_change(move |_| waking.notify_one());
    controller.quotas.synced().await;
    controller.discover().await;
    let this = controller.clone();
    let refresh = async move {
        loop {
            changed.notified().await;
            this.discover().await;
            this.quotas.list().iter().for_each(|quota| this.queue.add(quota.key.clone()));
        }
    };
    let this = controller.clone();
    let work = controller.context.work(controller.queue.clone(), 5, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::select! {
        () = refresh => {}
        () = work => {}
    }
}

fn spec_of(quota: &Object) -> Value {
    quota.value().map(|mut quota| quota["spec"].take()).unwrap_or_default()
}

/// The resources that a quota limits, as its status knows them (`status`) or as it should (`spec`).
fn limited(quota: &Value, part: &str) -> BTreeSet<String> {
    let hard = quota[part]["hard"].as_object().into_iter().flatten();
    hard.map(|(name, _)| name.clone()).collect()
}

fn concerned<'a>(resource: &GroupResource, limited: &'a BTreeSet<String>) -> BTreeSet<&'a str> {
    quota::matching(resource, limited.iter().map(String::as_str))
}

impl Controller {
    async fn discover(&self) {
        match resources::all(&self.context.client).await {
            Ok(mut kinds) => {
                kinds.retain(|kind| {
                    let GroupVersionResource { group, resource, .. } = &kind.resource;
                    let ignored = IGNORED.contains(&(&**group, &**resource));
                    kind.namespaced && !ignored && kind.can(&["list", "watch", "delete"])
                });
                *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds;
            }
            Err(error) => warn!(%error, "discovery failed"),
        }
    }

    fn follow(self: &Arc<Self>, kind: &Kind) -> Informer {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(informer) = followed.get(&kind.resource) {
            return informer.clone();
        }
        let informer = self.context.informers.resource(kind.resource.clone(), Scope::default());
        followed.insert(kind.resource.clone(), informer.clone());
        drop(followed);
        let (this, resource) = (self.clone(), kind.resource.group_resource());
        informer.on_change(move |change| this.changed(&resource, change));
        informer
    }

    /// Queues the quotas of the namespace to which an object gives something back. What is new was
    /// charged by admission.
    fn changed(&self, resource: &GroupResource, change: &Change) {
        let Some(old) = change.previous() else { return };
        for quota in self.quotas.in_namespace(&old.key.namespace) {
            let Ok(value) = quota.value() else { continue };
            if concerned(resource, &limited(&value, "status")).is_empty() {
                continue;
            }
            let counted = |object: &Object| {
                let object = object.value().ok()?;
                let scopes = quota::scopes(&value);
                let within = scopes.iter().all(|scope| scope.matches(resource, &object));
                within.then(|| quota::usage(resource, &object))
            };
            let gone = matches!(change, Change::Delete(_));
            if gone || counted(old) != counted(change.object()) {
                self.queue.add(quota.key.clone());
            }
        }
    }

    async fn reconcile(self: Arc<Self>, key: Key) -> Result<Action, ReconcileError> {
        let Some(quota) = self.quotas.get(&key) else { return Ok(Action::Done) };
        let value = quota.value()?;
        let used = self.used(&key, &value).await;
        let before = &value["status"];
        let same = before["hard"] == value["spec"]["hard"]
            && before["used"].is_object()
            && amounts::read(&before["used"]) == used;
        if same {
            return Ok(Action::Again(RESYNC));
        }
        let written = amounts::write(&used);
        let mut status = json!({"hard": value["spec"]["hard"], "used": written});
        for part in ["hard", "used"] {
            // A merge patch leaves alone what it does not name.
            for name in before[part].as_object().into_iter().flat_map(|part| part.keys()) {
                if status[part].get(name).is_none() {
                    status[part][name] = Value::Null;
                }
            }
        }
        // Bound to what was read: a charge that came in between must not be lost.
        let patch = json!({"metadata": {"uid": quota.uid,
            "resourceVersion": quota.revision.to_string()}, "status": status});
        let api = self.context.client.namespaced::<ResourceQuota>(&key.namespace);
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(Action::Again(RESYNC)),
        }
    }

    /// What the objects of the namespace use of what the quota limits. Resources that nothing here
    /// counts keep what the status says of them.
    async fn used(self: &Arc<Self>, key: &Key, value: &Value) -> Amounts {
        let names = limited(value, "spec");
        let scopes = quota::scopes(value);
        let mut used = amounts::read(&value["status"]["used"]);
        used.retain(|name, _| names.contains(name));
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner).clone();
        for kind in kinds {
            let resource = kind.resource.group_resource();
            let concerned = concerned(&resource, &names);
            if concerned.is_empty() {
                continue;
            }
            let informer = self.follow(&kind);
            informer.synced().await;
            let mut sum: Amounts = concerned
                .iter()
                .map(|name| ((*name).to_owned(), apimachinery::quantity::Quantity::ZERO))
                .collect();
            for object in informer.in_namespace(&key.namespace) {
                let Ok(object) = object.value() else { continue };
                if scopes.iter().all(|scope| scope.matches(&resource, &object)) {
                    let mut more = quota::usage(&resource, &object);
                    more.retain(|name, _| concerned.contains(name.as_str()));
                    amounts::add(&mut sum, &more);
                }
            }
            used.extend(sum);
        }
        used
    }
}
