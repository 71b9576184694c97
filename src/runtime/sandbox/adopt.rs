//! Taking over the sandboxes of an agent that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Sandbox;
use super::remove::{names, remove_remains};
use super::state::{Inner, Record, Shared, left_behind};
use crate::error::Result;
use crate::layout::{self, Layout};
use crate::shim::protocol::{End, Reply, Request};
use crate::spec::SandboxSpec;
use crate::sync::{blocking, lock, read_json};

/// Finds every sandbox that was left, connects to its shim, and removes what is of no use.
pub(crate) async fn adopt_all(shared: &Arc<Shared>) -> Result<()> {
    let mut known = BTreeSet::new();
    for uid in names(&shared.layout.pods()) {
        let Ok(pod) = shared.layout.pod(&uid) else { continue };
        let Ok(spec) = read_json::<SandboxSpec>(&pod.spec()) else {
            // Interrupted before anything was in it.
            let inner = Inner::new(shared.clone(), SandboxSpec::default(), pod);
            blocking(move || super::discard(&inner)).await?;
            continue;
        };
        let inner = Arc::new(Inner::new(shared.clone(), spec, pod));
        let this = inner.clone();
        let stream = blocking(move || Ok::<_, crate::Error>(adopt(&this))).await?;
        match stream {
            Some(stream) => inner.follow(stream, None)?,
            None => {
                inner.lose_containers();
                tracing::warn!(pod = uid, "shim is gone, its containers were killed");
                let event = crate::state::RuntimeEvent::ShimLost { pod_uid: uid.clone() };
                // Nobody listens yet, and the channel is empty.
                let _ = shared.events.try_send(event);
            }
        }
        known.extend(inner.states().into_iter().map(|state| state.id));
        lock(&shared.sandboxes).insert(uid, Sandbox::new(inner));
    }
    let layout = shared.layout.clone();
    blocking(move || {
        remove_orphans(&layout, &known);
        Ok(())
    })
    .await
}

/// Connects to the shim of a sandbox and restores its containers. `None` when the shim is gone;
/// then its containers are dead. Blocking.
fn adopt(inner: &Inner) -> Option<std::os::unix::net::UnixStream> {
    let subscribed = inner.subscribe();
    let mut told: BTreeMap<String, Option<End>> = BTreeMap::new();
    let stream = match subscribed {
        Ok((replies, stream)) => {
            for reply in replies {
                if let Reply::Container { id, end, .. } = reply {
                    told.insert(id, end);
                }
            }
            Some(stream)
        }
        Err(error) => {
            tracing::debug!(pod = inner.spec.pod_uid, %error, "adopt");
            inner.kill_containers();
            None
        }
    };
    for id in names(&inner.pod.containers()) {
        let file = layout::record_file(&inner.pod.container(&id));
        let Ok(record) = read_json::<Record>(&file) else {
            // Its start was interrupted: nobody counts on it.
            remove_remains(inner, &id);
            if stream.is_some() {
                let _ = inner.shim.call(&Request::Forget { id });
            }
            continue;
        };
        let end = match told.get(&id) {
            Some(end) => *end,
            None => left_behind(&inner.pod, &id),
        };
        inner.restore(record, end);
    }
    // A shim that does not know a container was started after that one's own was lost.
    inner.lose(|id| !told.contains_key(id));
    stream
}

/// Removes writable layers that belong to no container.
fn remove_orphans(layout: &Layout, known: &BTreeSet<String>) {
    for name in names(&layout.containers()) {
        if !known.contains(&name) {
            let path = layout.containers().join(name);
            if let Err(error) = std::fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "remove");
            }
        }
    }
}
