//! Ending and removing: containers, sandboxes, everything.

use std::io;
use std::path::Path;
use std::sync::Arc;

use linux::namespace;

use super::state::{Inner, Shared};
use crate::error::{Context, Result};
use crate::layout::PodLayout;
use crate::shim::protocol::Request;
use crate::spec::SandboxSpec;
use crate::state::Status;
use crate::sync::{blocking, lock, read_json};

/// Kills every process of a container.
pub(super) async fn kill(inner: &Arc<Inner>, id: &str) -> Result<()> {
    let (state, record) = inner.require(id)?;
    if state.status != Status::Running {
        return Ok(());
    }
    let guest = record.spec.process_namespace_of.is_some();
    let (this, id) = (inner.clone(), id.to_owned());
    blocking(move || {
        if guest || this.spec.host_pid || this.spec.share_process_namespace {
            let cgroup = this.container_cgroup(&id);
            return this.shared.cgroups.kill(&cgroup).at("kill", cgroup.as_ref());
        }
        // With the first process of a process namespace go all the others.
        let signal = linux::signal::Signal::KILL.0;
        this.shim.call(&Request::Signal { id, signal })
    })
    .await
}

/// Removes a container, which is killed if it runs.
pub(super) async fn remove_container(inner: &Arc<Inner>, id: &str) -> Result<()> {
    if inner.container(id).is_none() {
        return Ok(());
    }
    kill(inner, id).await?;
    inner.wait(id).await?;
    let (this, id) = (inner.clone(), id.to_owned());
    blocking(move || {
        if this.shim_alive() {
            this.shim.call(&Request::Forget { id: id.clone() })?;
        }
        remove_remains(&this, &id);
        this.drop_entry(&id);
        Ok(())
    })
    .await
}

/// Removes what a container left: cgroup, record, writable layer. Blocking; what fails stays for
/// the next start of the agent.
pub(super) fn remove_remains(inner: &Inner, id: &str) {
    let cgroup = inner.container_cgroup(id);
    let cgroups = &inner.shared.cgroups;
    let removed = cgroups
        .kill(&cgroup)
        .and_then(|()| cgroups.remove(&cgroup))
        .and_then(|()| remove_all(&inner.pod.container(id)))
        .and_then(|()| remove_writable(&inner.shared, id));
    if let Err(error) = removed {
        tracing::warn!(pod = inner.spec.pod_uid, container_id = id, %error, "remove container");
    }
}

/// Removes a writable layer. It may hold many files, so it is only put aside here.
fn remove_writable(shared: &Shared, id: &str) -> io::Result<()> {
    let (dir, _) = shared.layout.container(id);
    let aside = dir.with_file_name(format!(".{id}"));
    match std::fs::rename(&dir, &aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    // A thread for a moment; detached, because nobody waits for it.
    std::thread::Builder::new().name("remove".into()).spawn(move || remove_all(&aside)).map(drop)
}

fn remove_all(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a sandbox with everything in it.
pub(super) async fn remove(inner: &Arc<Inner>) -> Result<()> {
    inner.begin_removal();
    let this = inner.clone();
    blocking(move || discard(&this)).await?;
    for state in inner.states() {
        inner.drop_entry(&state.id);
    }
    lock(&inner.shared.sandboxes).remove(&inner.spec.pod_uid);
    Ok(())
}

/// Ends and removes a sandbox, made whole or in part. Blocking, idempotent.
pub(crate) fn discard(inner: &Inner) -> Result<()> {
    inner.begin_removal();
    discard_pod(&inner.shared, &inner.spec, &inner.pod)
}

fn discard_pod(shared: &Shared, spec: &SandboxSpec, pod: &PodLayout) -> Result<()> {
    let client = crate::shim_client::ShimClient::new(&spec.pod_uid, pod);
    client.shut_down();
    let cgroup = &spec.cgroup_parent;
    if !cgroup.trim_matches('/').is_empty() {
        shared.cgroups.kill(cgroup).at("kill", cgroup.as_ref())?;
        shared.cgroups.remove(cgroup).at("remove cgroup", cgroup.as_ref())?;
    }
    discard_folders(shared, pod)
}

fn discard_folders(shared: &Shared, pod: &PodLayout) -> Result<()> {
    for id in names(&pod.containers()) {
        remove_writable(shared, &id).at("remove", &shared.layout.container(&id).0)?;
    }
    for name in names(&pod.namespaces()) {
        let pin = pod.namespace(&name);
        namespace::unpin(&pin).at("unpin", &pin)?;
    }
    match linux::mount::unmount(pod.shm()) {
        // Not a mount, or not there.
        Err(e) if matches!(e.raw_os_error(), Some(22 | 2)) => {}
        other => other.at("unmount", &pod.shm())?,
    }
    remove_all(&pod.dir).at("remove", &pod.dir)
}

/// The names in a folder; none where there is no folder.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Ends and removes every sandbox that a runtime left, known or not. Blocking.
pub(crate) fn clean_up(shared: &Shared) -> Result<()> {
    for uid in names(&shared.layout.pods()) {
        let Ok(pod) = shared.layout.pod(&uid) else { continue };
        match read_json::<SandboxSpec>(&pod.spec()) {
            Ok(spec) => discard_pod(shared, &spec, &pod)?,
            Err(_) => discard_folders(shared, &pod)?,
        }
    }
    // The tree of quality-of-service classes, unless another node agent has pods in it.
    let tree = "/kubepods";
    let cgroups = &shared.cgroups;
    if cgroups.processes(tree).is_ok_and(|pids| pids.is_empty()) {
        cgroups.remove(tree).at("remove cgroup", tree.as_ref())?;
        cgroups.prune("/");
    }
    Ok(())
}
