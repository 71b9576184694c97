//! Garbage collection: dependents go with their owners.
//!
//! A graph of all objects and their owners is kept from one watch a resource; over the in-process
//! transport that costs an entry an object and no copy. What an object asks for is decided anew at
//! each look, by the live object; the graph only says where to look.

mod graph;
mod process;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use apimachinery::{GroupVersionResource, Key, Object};
use client::{Change, Informer, Scope, WorkQueue};
use tokio::sync::Notify;
use tracing::{debug, warn};

use self::graph::{Graph, Identity};
use crate::{
    Context,
    resources::{self, Kind},
};

/// Resources whose objects come and go too fast to be worth following, and own nothing.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

struct Collector {
    context: Context,
    kinds: RwLock<Vec<Kind>>,
    graph: Mutex<Graph>,
    followed: Mutex<HashMap<GroupVersionResource, Informer>>,
    queue: Arc<WorkQueue<Identity>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let collector = Arc::new(Collector {
        kinds: RwLock::default(),
        graph: Mutex::default(),
        followed: Mutex::default(),
        queue: Arc::new(WorkQueue::new()),
        context,
    });
    let again = Arc::new(Notify::new());
    let waking = again.clone();
    resources::definitions(&collector.context.informers).on_change(move |_| waking.notify_one());
    // Nothing is judged before the whole graph is there: an owner not yet seen is not absent.
    collector.follow_all().await;
    let this = collector.clone();
    let refresh = async move {
        loop {
            again.notified().await;
            this.follow_all().await;
        }
    };
    let this = collector.clone();
    let work = client::controller::run(
        "garbage-collector",
        collector.queue.clone(),
        4,
        collector.context.stop.clone(),
        move |identity| {
            let this = this.clone();
            async move { process::process(&this, identity).await }
        },
    );
    tokio::select! {
        () = refresh => {}
        () = work => {}
    }
}

impl Collector {
    /// Follows every resource that is not followed yet, and waits until all are known.
    async fn follow_all(self: &Arc<Self>) {
        let kinds = match resources::all(&self.context.client).await {
            Ok(kinds) => kinds,
            Err(error) => return warn!(%error, "discovery failed"),
        };
        *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds.clone();
        let mut informers = Vec::new();
        for kind in kinds {
            let GroupVersionResource { group, resource, .. } = &kind.resource;
            let ignored = IGNORED.contains(&(&**group, &**resource));
            if !ignored && kind.can(&["list", "watch", "delete"]) {
                informers.push(self.follow(&kind));
            }
        }
        for informer in informers {
            informer.synced().await;
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
        debug!(resource = %kind.resource.group_resource(), "following for garbage collection");
        let (this, kind) = (self.clone(), kind.clone());
        informer.on_change(move |change| this.changed(&kind, change));
        informer
    }

    fn changed(&self, kind: &Kind, change: &Change) {
        let object = change.object();
        let identity = Identity::new(&kind.resource, object);
        let mut graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
        let concerned = match change {
            Change::Put { .. } => graph.put(identity, object),
            Change::Delete(_) => graph.remove(&identity),
        };
        drop(graph);
        for identity in concerned {
            self.queue.add(identity);
        }
    }

    fn kind_of(&self, resource: &GroupVersionResource) -> Option<Kind> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.iter().find(|kind| kind.resource == *resource).cloned()
    }

    fn kind_named(&self, api_version: &str, kind: &str) -> Option<Kind> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        resources::find(&kinds, api_version, kind).cloned()
    }

    fn object(&self, resource: &GroupVersionResource, key: &Key) -> Option<Arc<Object>> {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.get(resource)?.get(key)
    }
}
