//! What the agent knows of a sandbox, and how it learns from the shim.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use linux::cgroup::Cgroups;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc};

use super::{Sandbox, unknown};
use crate::error::{Error, Result};
use crate::image::{ImageHold, ImageStore};
use crate::layout::{self, Layout, PodLayout};
use crate::shim::process::ProcessSpec;
use crate::shim::protocol::{self, End, Moment, Reply, Request};
use crate::shim_client::ShimClient;
use crate::spec::{ContainerSpec, ResolvedUser, Resources, SandboxSpec};
use crate::state::{ContainerState, ExitStatus, RuntimeEvent, Status};
use crate::sync::{blocking, lock};

/// What all sandboxes of a runtime share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    pub(crate) cgroups: Cgroups,
    pub(crate) images: ImageStore,
    pub(crate) events: mpsc::Sender<RuntimeEvent>,
    pub(crate) sandboxes: Mutex<BTreeMap<String, Sandbox>>,
}

/// A sandbox.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spec: SandboxSpec,
    pub(crate) pod: PodLayout,
    pub(crate) shim: ShimClient,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<String, Entry>,
    /// Our own child, until it is reaped; an adopted shim is somebody else's.
    child: Option<Child>,
    shim_alive: bool,
    /// The sandbox is being removed: the end of the shim is no news.
    removing: bool,
}

#[derive(Debug)]
enum Entry {
    /// Between the request and its success. An end meanwhile is told when the start was.
    Starting {
        end: Option<End>,
    },
    Started {
        record: Arc<Record>,
        end: Option<ExitStatus>,
        _images: Vec<ImageHold>,
    },
}

/// What is kept of a started container, in memory and on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) spec: Arc<ContainerSpec>,
    /// The program and what it may do, without the compiled filter.
    pub(crate) process: ProcessSpec,
    pub(crate) user: ResolvedUser,
    pub(crate) pid: i32,
    pub(crate) started: Moment,
}

impl Record {
    fn state(&self, end: &Option<ExitStatus>) -> ContainerState {
        ContainerState {
            id: self.spec.id.clone(),
            name: self.spec.name.clone(),
            attempt: self.spec.attempt,
            pid: self.pid,
            image: self.spec.image.clone(),
            started_at: time_of(self.started),
            user: self.user.clone(),
            status: end.clone().map_or(Status::Running, Status::Exited),
        }
    }

    fn exit(&self, end: End) -> ExitStatus {
        ExitStatus {
            code: end.code,
            signal: end.signal,
            oom_killed: end.oom,
            started_at: time_of(self.started),
            finished_at: time_of(end.at),
            message: String::new(),
        }
    }

    /// The end of a container whose shim is gone.
    fn lost(&self) -> ExitStatus {
        ExitStatus {
            code: 137,
            signal: 9,
            oom_killed: false,
            started_at: time_of(self.started),
            finished_at: SystemTime::now(),
            message: "the container's shim ended".to_owned(),
        }
    }
}

fn time_of((seconds, nanos): Moment) -> SystemTime {
    let since = Duration::new(seconds.unsigned_abs(), nanos);
    SystemTime::UNIX_EPOCH + since
}

impl Inner {
    pub(crate) fn new(shared: Arc<Shared>, spec: SandboxSpec, pod: PodLayout) -> Inner {
        let shim = ShimClient::new(&spec.pod_uid, &pod);
        Inner { shared, spec, pod, shim, state: Mutex::default(), changed: Notify::new() }
    }

    /// The cgroup of a container.
    pub(crate) fn container_cgroup(&self, id: &str) -> String {
        format!("{}/{id}", self.spec.cgroup_parent.trim_end_matches('/'))
    }

    pub(crate) fn update_cgroup(&self, path: &str, resources: &Resources) -> Result<()> {
        self.shared
            .cgroups
            .update(path, resources)
            .map_err(|e| Error::Io { context: format!("set limits of cgroup {path}"), source: e })
    }

    /// Every started container.
    pub(crate) fn states(&self) -> Vec<ContainerState> {
        let state = lock(&self.state);
        state.containers.values().filter_map(Entry::state).collect()
    }

    pub(crate) fn container(&self, id: &str) -> Option<(ContainerState, Arc<Record>)> {
        match lock(&self.state).containers.get(id)? {
            Entry::Starting { .. } => None,
            Entry::Started { record, end, .. } => Some((record.state(end), record.clone())),
        }
    }

    pub(crate) fn require(&self, id: &str) -> Result<(ContainerState, Arc<Record>)> {
        self.container(id).ok_or_else(|| unknown(id))
    }

    /// A container that runs, or an error.
    pub(crate) fn require_running(&self, id: &str) -> Result<Arc<Record>> {
        let (state, record) = self.require(id)?;
        match state.status {
            Status::Running => Ok(record),
            Status::Exited(_) => Err(Error::Invalid(format!("container {id:?} is not running"))),
        }
    }

    pub(crate) async fn wait(&self, id: &str) -> Result<ExitStatus> {
        loop {
            let changed = self.changed.notified();
            if let Status::Exited(exit) = self.require(id)?.0.status {
                return Ok(exit);
            }
            changed.await;
        }
    }

    /// Reserves an id. False when it is taken.
    pub(crate) fn begin(&self, id: &str) -> bool {
        let mut state = lock(&self.state);
        if state.containers.contains_key(id) {
            return false;
        }
        state.containers.insert(id.to_owned(), Entry::Starting { end: None });
        true
    }

    /// A start has succeeded; an end that came in the meantime is told now.
    pub(crate) fn begun(
        self: &Arc<Self>,
        record: Record,
        images: Vec<ImageHold>,
    ) -> Option<ContainerState> {
        let id = record.spec.id.clone();
        let mut state = lock(&self.state);
        let entry = state.containers.get_mut(&id)?;
        let end = match entry {
            Entry::Starting { end } => end.map(|end| record.exit(end)),
            Entry::Started { .. } => None,
        };
        let record = Arc::new(record);
        *entry = Entry::Started { record, end: end.clone(), _images: images };
        let told = entry.state();
        drop(state);
        self.changed.notify_waiters();
        if let Some(exit) = end {
            let this = self.clone();
            tokio::spawn(async move { this.tell_exit(id, exit).await });
        }
        told
    }

    /// Forgets a container.
    pub(crate) fn drop_entry(&self, id: &str) {
        lock(&self.state).containers.remove(id);
        self.changed.notify_waiters();
    }

    /// Puts an adopted container in place.
    pub(crate) fn restore(&self, record: Record, end: Option<End>) {
        let id = record.spec.id.clone();
        let end = end.map(|end| record.exit(end));
        let images = images_of(&record.spec);
        let images = images.filter_map(|image| self.shared.images.hold(image)).collect();
        let entry = Entry::Started { record: Arc::new(record), end, _images: images };
        lock(&self.state).containers.insert(id, entry);
    }

    /// The sandbox is on its way out.
    pub(crate) fn begin_removal(&self) {
        lock(&self.state).removing = true;
    }

    pub(crate) fn shim_alive(&self) -> bool {
        lock(&self.state).shim_alive
    }

    /// Subscribes to a shim: what it tells at once is answered, the rest to be followed. Blocking.
    pub(crate) fn subscribe(&self) -> Result<(Vec<Reply>, UnixStream)> {
        let stream = self.shim.send(&Request::Subscribe, &[])?;
        let mut told = Vec::new();
        loop {
            match self.shim.answer(&stream)?.0 {
                Reply::AllTold => break,
                reply => told.push(reply),
            }
        }
        stream.set_nonblocking(true).map_err(|e| self.shim.error(e))?;
        Ok((told, stream))
    }

    /// Follows what the shim tells, until it ends.
    pub(crate) fn follow(self: &Arc<Self>, stream: UnixStream, child: Option<Child>) -> Result<()> {
        let stream = tokio::net::UnixStream::from_std(stream).map_err(|e| self.shim.error(e))?;
        {
            let mut state = lock(&self.state);
            state.child = child;
            state.shim_alive = true;
        }
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.listen(stream).await {
                tracing::debug!(pod = this.spec.pod_uid, %error, "shim connection");
            }
            this.shim_ended().await;
        });
        Ok(())
    }

    async fn listen(self: &Arc<Self>, mut stream: tokio::net::UnixStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        // Grown on demand and not kept: there is one of these for every pod.
        while stream.readable().await.is_ok() {
            buffer.reserve(256);
            if stream.read_buf(&mut buffer).await? == 0 {
                break;
            }
            while let Some((reply, taken)) = protocol::take::<Reply>(&buffer)? {
                buffer.drain(..taken);
                if let Reply::Container { id, end: Some(end), .. } = reply {
                    self.ended(id, end).await;
                }
            }
            if buffer.is_empty() {
                buffer = Vec::new();
            }
        }
        Ok(())
    }

    async fn ended(self: &Arc<Self>, id: String, end: End) {
        let exit = {
            let mut state = lock(&self.state);
            match state.containers.get_mut(&id) {
                None => return,
                Some(Entry::Starting { end: held }) => {
                    *held = Some(end);
                    return;
                }
                Some(Entry::Started { end: Some(_), .. }) => return,
                Some(Entry::Started { record, end: slot, .. }) => {
                    slot.insert(record.exit(end)).clone()
                }
            }
        };
        self.changed.notify_waiters();
        self.tell_exit(id, exit).await;
    }

    async fn tell_exit(self: &Arc<Self>, container_id: String, exit: ExitStatus) {
        tracing::debug!(pod = self.spec.pod_uid, container_id, code = exit.code, "container ended");
        let pod_uid = self.spec.pod_uid.clone();
        let cgroup = self.container_cgroup(&container_id);
        let event = RuntimeEvent::ContainerExited { pod_uid, container_id, exit };
        let _ = self.shared.events.send(event).await;
        // Nothing runs in it any more, and its counters were read.
        let this = self.clone();
        let _ = blocking(move || {
            let _ = this.shared.cgroups.remove(&cgroup);
            Ok::<_, Error>(())
        })
        .await;
    }

    /// The shim has gone away. Unless it was told to, its containers go as well.
    async fn shim_ended(self: &Arc<Self>) {
        let (child, removing) = {
            let mut state = lock(&self.state);
            state.shim_alive = false;
            (state.child.take(), state.removing)
        };
        if let Some(mut child) = child {
            let reap = move || child.wait().map_err(|e| Error::Gone(e.to_string()));
            let _ = blocking(reap).await;
        }
        if removing {
            self.changed.notify_waiters();
            return;
        }
        tracing::warn!(pod = self.spec.pod_uid, "shim ended, killing its containers");
        let this = self.clone();
        let _ = blocking(move || {
            this.kill_containers();
            Ok::<_, Error>(())
        })
        .await;
        for (id, exit) in self.lose_containers() {
            self.tell_exit(id, exit).await;
        }
        let pod_uid = self.spec.pod_uid.clone();
        let _ = self.shared.events.send(RuntimeEvent::ShimLost { pod_uid }).await;
    }

    /// Kills every process in the pod's cgroup. Blocking.
    pub(crate) fn kill_containers(&self) {
        if let Err(error) = self.shared.cgroups.kill(&self.spec.cgroup_parent) {
            tracing::warn!(pod = self.spec.pod_uid, %error, "kill processes of the pod");
        }
    }

    /// Ends every running container of a shim that is gone: with the exit status that the shim
    /// left behind, or as lost.
    pub(crate) fn lose_containers(&self) -> Vec<(String, ExitStatus)> {
        self.lose(|_| true)
    }

    /// The same for those that the shim does not know.
    pub(crate) fn lose(&self, which: impl Fn(&str) -> bool) -> Vec<(String, ExitStatus)> {
        let mut ended = Vec::new();
        for (id, entry) in &mut lock(&self.state).containers {
            if !which(id) {
                continue;
            }
            if let Entry::Started { record, end: end @ None, .. } = entry {
                let left = left_behind(&self.pod, id);
                let exit = left.map_or_else(|| record.lost(), |end| record.exit(end));
                *end = Some(exit.clone());
                ended.push((id.clone(), exit));
            }
        }
        self.changed.notify_waiters();
        ended
    }
}

/// The images that a container uses: its own, and those of its image volumes.
pub(crate) fn images_of(spec: &ContainerSpec) -> impl Iterator<Item = &str> {
    let volumes = spec.mounts.iter().filter_map(|m| m.image.as_deref());
    std::iter::once(spec.image.as_str()).chain(volumes)
}

/// The exit status that a shim wrote.
pub(crate) fn left_behind(pod: &PodLayout, id: &str) -> Option<End> {
    let text = std::fs::read_to_string(layout::exit_file(&pod.container(id))).ok()?;
    End::from_line(&text)
}

impl Entry {
    fn state(&self) -> Option<ContainerState> {
        match self {
            Entry::Starting { .. } => None,
            Entry::Started { record, end, .. } => Some(record.state(end)),
        }
    }
}
