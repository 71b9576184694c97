//! The worker of one pod. It is woken by whatever happens to the pod, looks at what is wanted and at
//! what runs, and brings the one closer to the other. It never waits for anything but news: what
//! takes long runs beside it, one operation at a time.

mod end;
mod keep;
mod report;
mod resize;

use std::{net::IpAddr, sync::Arc, time::Duration};

use apimachinery::Object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use runtime::Sandbox;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, warn};

use self::resize::Resizing;
use super::{
    admission::Measure,
    backoff::CrashBackoff,
    mailbox::{Eviction, Inbox, Mailbox, Outcome, Progress},
    observe::Observer,
    view::{ContainerView, PodView},
};
use crate::{
    podspec::{PodExt, from_system, is_terminal, now, pod_reference},
    probes::Probes,
    shared::Shared,
    status::containers::Reasons,
    volumes::Volumes,
};

/// After this long a status that could not be written is tried again.
const WRITE_RETRY: Duration = Duration::from_secs(5);

/// Where a pod is in its life.
enum Stage {
    /// Not looked at yet.
    New,
    /// Taken by the node and to be kept as wanted.
    Running,
    /// To be stopped.
    Terminating { grace: watch::Sender<Duration> },
    /// Nothing of it runs, and nothing is left of it.
    Terminated,
}

/// An operation under way.
struct Running {
    cancel: CancellationToken,
    /// Containers are killed to be started anew.
    replaces: bool,
    /// Ends with the worker.
    _task: AbortOnDropHandle<()>,
}

impl Running {
    /// One that ends by itself.
    fn new(task: JoinHandle<()>) -> Self {
        let cancel = CancellationToken::new();
        Self { cancel, replaces: false, _task: AbortOnDropHandle::new(task) }
    }
}

/// The worker of one pod.
pub(super) struct Worker {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    uid: String,
    /// The newest version known, from the watch or from an answer.
    object: Arc<Object>,
    gone: bool,
    stage: Stage,
    eviction: Option<Eviction>,
    observer: Observer,
    resizing: Resizing,
    ips: Vec<IpAddr>,
    /// The sandbox is of a kubelet before this one: the network has to hear of its host ports.
    reconnect: bool,
    /// What was found out about the pod's status last.
    status: PodStatus,
    reasons: Reasons,
    backoff: CrashBackoff,
    /// Containers whose back-off was told, with its end.
    told: std::collections::HashMap<String, Timestamp>,
    probes: Probes,
    operation: Option<Running>,
    retry: Option<Instant>,
    failures: u32,
    volumes: Option<Volumes>,
    refresh: Option<Instant>,
    refreshing: bool,
    /// How often the volumes could not be brought up to date in a row.
    stale: u32,
    /// A kubelet before this one has made the volumes: they are kept current, too.
    adopted: bool,
    writing: bool,
    /// The last patch that was accepted, to not write what the server does not take.
    last_patch: Option<serde_json::Value>,
    write_after: Option<Instant>,
    deleting: bool,
    /// The pod was taken by this kubelet or one before it.
    admitted: bool,
}

/// The addresses of a pod that runs already. The network may not be there yet; what the pod was told
/// to have is right then.
fn known_addresses(shared: &Shared, uid: &str, object: &Object) -> Vec<IpAddr> {
    let told = || {
        shared.runtime.sandbox(uid)?;
        let ips = object.parse::<Pod>().ok()?.status?.pod_ips?;
        ips.iter().map(|ip| ip.ip.parse().ok()).collect()
    };
    shared.network.addresses(uid).or_else(told).unwrap_or_default()
}

/// What a worker does next.
enum Next {
    Wait(Option<Instant>),
    End,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, mailbox: Arc<Mailbox>, object: Arc<Object>) -> Self {
        let max = shared.config.max_container_restart_period;
        let uid = object.uid.to_string();
        let ips = known_addresses(&shared, &uid, &object);
        Self {
            mailbox,
            uid,
            object,
            gone: false,
            stage: Stage::New,
            eviction: None,
            observer: Observer::default(),
            resizing: Resizing::default(),
            ips,
            reconnect: false,
            status: PodStatus::default(),
            reasons: Reasons::new(),
            backoff: CrashBackoff::new(max),
            told: std::collections::HashMap::new(),
            probes: Probes::default(),
            operation: None,
            retry: None,
            failures: 0,
            volumes: None,
            refresh: None,
            refreshing: false,
            stale: 0,
            adopted: false,
            writing: false,
            last_patch: None,
            write_after: None,
            deleting: false,
            admitted: false,
            shared,
        }
    }

    /// Works until the pod is gone.
    pub(super) async fn run(mut self) {
        loop {
            let inbox = self.mailbox.take();
            self.receive(inbox);
            match self.step() {
                Next::End => break,
                Next::Wait(Some(until)) => tokio::select! {
                    () = self.mailbox.news() => {}
                    () = sleep_until(until) => {}
                },
                Next::Wait(None) => self.mailbox.news().await,
            }
        }
        self.shared.ledger.remove(&self.uid);
    }

    fn sandbox(&self) -> Option<Sandbox> {
        self.shared.runtime.sandbox(&self.uid)
    }

    fn receive(&mut self, inbox: Inbox) {
        if let Some(object) = inbox.object
            && object.revision > self.object.revision
        {
            let (old, new) = (self.pod(), object.parse::<Pod>().ok());
            self.object = object;
            if new.is_some_and(|new| {
                let old = old.as_deref();
                old.is_none_or(|old| {
                    old.metadata.labels != new.metadata.labels
                        || old.metadata.annotations != new.metadata.annotations
                        || old.spec != new.spec
                })
            }) {
                // What was wrong may be right now, and the pod's own fields may be on show.
                self.retry = None;
                self.refresh = Some(Instant::now());
            }
        }
        self.gone |= inbox.gone;
        if let Some(eviction) = inbox.eviction {
            self.evict(eviction);
        }
        for change in inbox.probes {
            self.probes.apply(&change);
        }
        if inbox.data_changed {
            self.retry = None;
            self.refresh = Some(Instant::now());
        }
        for progress in inbox.progress {
            self.progress(progress);
        }
        for (id, exit) in inbox.lost {
            self.lost(&id, exit);
        }
        if let Some(Outcome { retry, failed }) = inbox.done {
            self.operation = None;
            self.retry = retry;
            self.failures = if failed { self.failures + 1 } else { 0 };
        }
        if let Some(refreshed) = inbox.refreshed {
            self.refreshing = false;
            self.refreshed(refreshed);
        }
        if let Some(written) = inbox.written {
            self.writing = false;
            self.written(written);
        }
        if let Some(deleted) = inbox.deleted {
            match deleted {
                // Asked once: where finalizers keep it, the API server removes it with the last.
                Ok(()) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => self.gone = true,
                Err(error) => {
                    self.deleting = false;
                    debug!(pod = %self.object.key, %error, "pod not deleted");
                    self.write_after = Some(Instant::now() + WRITE_RETRY);
                }
            }
        }
    }

    fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Sandbox(ips) => self.ips = ips,
            Progress::Volumes(volumes) => {
                self.refresh = volumes.refresh.map(instant_of);
                self.volumes = Some(volumes);
            }
            Progress::Started(container) => {
                self.reasons.remove(&container);
                self.observer.forget(Some(&container));
            }
            Progress::Failed { container, reason, message, instance } => {
                self.reasons.insert(container, (reason, message));
                if let Some(instance) = instance {
                    self.observer.keep(instance);
                }
            }
            Progress::Resized(record) => self.resized(record),
            Progress::NotResized(why) => self.not_resized(&why),
            Progress::Removed(container) => self.observer.forget(Some(&container)),
        }
    }

    /// A container of which the runtime knows no more than how it ended.
    fn lost(&mut self, id: &str, exit: runtime::ExitStatus) {
        if self.sandbox().is_some_and(|sandbox| sandbox.container(id).is_some()) {
            return;
        }
        let api_id = format!("{}://{id}", super::view::RUNTIME_NAME);
        let statuses = [&self.status.container_statuses, &self.status.init_container_statuses];
        let known = statuses
            .into_iter()
            .flatten()
            .flatten()
            .find(|status| status.container_id.as_deref() == Some(&api_id));
        let Some(status) = known else { return };
        let instance = ContainerView {
            id: id.to_owned(),
            name: status.name.clone(),
            attempt: u32::try_from(status.restart_count).unwrap_or(0),
            image: status.image.clone(),
            image_id: status.image_id.clone(),
            started_at: from_system(exit.started_at),
            state: super::view::ContainerState::Exited(super::view::Exit {
                code: exit.code,
                reason: if exit.code == 0 { "Completed" } else { "Error" }.to_owned(),
                message: exit.message,
                finished_at: from_system(exit.finished_at),
            }),
            ..ContainerView::default()
        };
        self.observer.keep(instance);
    }

    fn evict(&mut self, eviction: Eviction) {
        let smaller = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
        match &mut self.eviction {
            Some(before) => before.grace = smaller(before.grace, eviction.grace),
            None => self.eviction = Some(eviction),
        }
    }

    fn pod(&self) -> Option<Arc<Pod>> {
        match self.object.parse::<Pod>() {
            Ok(pod) => Some(Arc::new(pod)),
            Err(error) => {
                warn!(pod = %self.object.key, %error, "pod cannot be read");
                None
            }
        }
    }

    fn step(&mut self) -> Next {
        let Some(pod) = self.pod() else {
            return if self.gone { Next::End } else { Next::Wait(None) };
        };
        if matches!(self.stage, Stage::New) {
            self.take_in(&pod);
        }
        if matches!(self.stage, Stage::Running) {
            self.consider_resize(&pod);
            let pod = self.granted(&pod);
            return self.keep(&pod);
        }
        let pod = self.granted(&pod);
        if matches!(self.stage, Stage::Terminating { .. }) {
            return self.terminate(&pod);
        }
        self.terminated(&pod)
    }

    /// The first look at a pod.
    fn take_in(&mut self, pod: &Arc<Pod>) {
        self.status = pod.status.clone().unwrap_or_default();
        let ran = self.status.start_time.is_some() || self.sandbox().is_some();
        if ran {
            self.recall_grants(pod);
        } else {
            self.grant_all(pod);
        }
        if self.gone || pod.deleting() || is_terminal(pod.phase()) {
            return self.begin_termination(pod);
        }
        if ran {
            self.shared.ledger.insert(&self.granted(pod));
            self.admitted = true;
            self.adopted = self.sandbox().is_some();
            // Tokens, certificates and what was changed meanwhile.
            self.refresh = self.adopted.then(Instant::now);
            self.reconnect = !pod.host_network() && self.sandbox().is_some();
            self.stage = Stage::Running;
            return;
        }
        let node = self
            .shared
            .node
            .get_as::<k8s_openapi::api::core::v1::Node>("", &self.shared.config.node_name);
        let measure = Measure {
            node: node.as_ref(),
            allocatable: &self.shared.machine.allocatable,
            allowed_unsafe_sysctls: &self.shared.config.allowed_unsafe_sysctls,
        };
        match self.shared.ledger.admit(pod, &measure) {
            Ok(()) => {
                self.admitted = true;
                self.stage = Stage::Running;
            }
            Err(refusal) => {
                let reference = pod_reference(pod);
                self.shared.recorder.warning(&reference, &refusal.reason, refusal.message.clone());
                self.status.phase = Some("Failed".to_owned());
                self.status.reason = Some(refusal.reason);
                self.status.message = Some(format!("Pod was rejected: {}", refusal.message));
                self.status.start_time = Some(now());
                self.status.observed_generation = Some(pod.generation()).filter(|g| *g > 0);
                self.status.qos_class = Some(crate::resources::qos(pod).name().to_owned());
                self.stage = Stage::Terminated;
            }
        }
    }

    fn look(&mut self, pod: &Pod) -> PodView {
        let sandbox = self.sandbox();
        self.observer.look(pod, sandbox.as_ref(), &self.ips)
    }
}

/// A point in time on the clock that timers use.
fn instant_of(time: Timestamp) -> Instant {
    let ahead = time.duration_since(Timestamp::now());
    Instant::now() + Duration::try_from(ahead).unwrap_or(Duration::ZERO)
}
