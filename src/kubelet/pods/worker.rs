//! The worker of one pod. It is woken by whatever happens to the pod, looks at what is wanted and at
//! what runs, and brings the one closer to the other. It never waits for anything but news: what
//! takes long runs beside it, one operation at a time.

use std::{net::IpAddr, sync::Arc, time::Duration};

use apimachinery::Object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use runtime::Sandbox;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, warn};

use super::{
    actions::{self, Actions, backoff_key, decide},
    admission::Measure,
    backoff::CrashBackoff,
    kill::Killer,
    log_files,
    mailbox::{Eviction, Inbox, Mailbox, Outcome, Progress},
    observe::Observer,
    sandbox,
    set_up::Operation,
    view::{ContainerView, PodView},
    write,
};
use crate::{
    podspec::{
        Kind, PodExt, container_reference, from_system, is_sidecar, is_terminal, now, pod_reference,
    },
    probes::{self, Probes},
    requests,
    shared::Shared,
    status::{
        conditions::condition,
        containers::Reasons,
        finish::{finish, reportable},
        generate,
    },
    volumes::{self, Setup, Volumes},
};

/// How long a status may wait that says nothing that anybody waits for.
const UNHURRIED: Duration = Duration::from_millis(150);
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
    /// Ends with the worker.
    _task: AbortOnDropHandle<()>,
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
            match self.step().await {
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
            self.deleting = false;
            match deleted {
                Ok(()) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => self.gone = true,
                Err(error) => {
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

    async fn step(&mut self) -> Next {
        let Some(pod) = self.pod() else {
            return if self.gone { Next::End } else { Next::Wait(None) };
        };
        if matches!(self.stage, Stage::New) {
            self.take_in(&pod);
        }
        if matches!(self.stage, Stage::Running) {
            return self.keep(&pod).await;
        }
        if matches!(self.stage, Stage::Terminating { .. }) {
            return self.terminate(&pod);
        }
        self.terminated(&pod)
    }

    /// The first look at a pod.
    fn take_in(&mut self, pod: &Arc<Pod>) {
        self.status = pod.status.clone().unwrap_or_default();
        let ran = self.status.start_time.is_some() || self.sandbox().is_some();
        if self.gone || pod.deleting() || is_terminal(pod.phase()) {
            return self.begin_termination(pod);
        }
        if ran {
            self.shared.ledger.insert(pod);
            self.admitted = true;
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

    /// Keeps a running pod as it is wanted.
    async fn keep(&mut self, pod: &Arc<Pod>) -> Next {
        let deadline = self.check_deadline(pod);
        if self.gone || pod.deleting() || self.eviction.is_some() || is_terminal(pod.phase()) {
            self.begin_termination(pod);
            return self.terminate(pod);
        }
        let view = self.look(pod);
        self.run_probes(pod, &view);
        let restarting_all = generate::restarting_all(pod, &view, &self.status);
        let actions = decide(&actions::Input {
            pod,
            view: &view,
            probes: &self.probes,
            backoff: &self.backoff,
            now: Timestamp::now(),
            restarting_all,
            resize_restarts: &[],
        });
        self.tell_backoff(pod, &view, &actions);
        self.generate(pod, &view, false);
        if is_terminal(self.status.phase.as_deref().unwrap_or_default()) {
            self.begin_termination(pod);
            return self.terminate(pod);
        }
        let mut wake = self.act(pod, view, actions);
        self.refresh_volumes(pod);
        wake.extend(deadline);
        wake.extend(self.refresh.filter(|_| !self.refreshing && self.volumes.is_some()));
        wake.extend(self.report(pod, true));
        Next::Wait(wake.into_iter().min())
    }

    /// Starts what has to be done. Answers when to look again.
    fn act(&mut self, pod: &Arc<Pod>, view: PodView, actions: Actions) -> Vec<Instant> {
        let mut wake: Vec<Instant> = actions.wake().map(instant_of).into_iter().collect();
        if self.operation.is_some() {
            return wake;
        }
        if self.reconnect && self.shared.network.not_ready().is_none() {
            self.reconnect = false;
            self.reconnect_sandbox(pod);
            return wake;
        }
        if actions.is_empty() {
            return wake;
        }
        if let Some(retry) = self.retry.filter(|retry| *retry > Instant::now()) {
            // Killing and first starts do not wait; what failed does.
            let waits = actions.create_sandbox
                || actions.start.iter().all(|start| self.reasons.contains_key(&start.name));
            if actions.kill.is_empty() && !actions.kill_pod && !actions.reset && waits {
                wake.push(retry);
                return wake;
            }
        }
        let at = Timestamp::now();
        for start in &actions.start {
            if let (Some(finished), Some((_, container))) =
                (start.after, pod.find_container(&start.name))
            {
                self.backoff.restarted(&backoff_key(&container), finished, at);
            }
        }
        let cancel = CancellationToken::new();
        let operation = Operation {
            shared: self.shared.clone(),
            mailbox: self.mailbox.clone(),
            pod: pod.clone(),
            view,
            actions,
            sandbox: self.sandbox(),
            volumes: self.volumes.clone(),
            ips: self.ips.clone(),
            failures: self.failures,
            cancel: cancel.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(operation.run()));
        self.operation = Some(Running { cancel, _task: task });
        wake
    }

    fn reconnect_sandbox(&mut self, pod: &Arc<Pod>) {
        let Some(sandbox) = self.sandbox() else { return };
        let (shared, mailbox, pod) = (self.shared.clone(), self.mailbox.clone(), pod.clone());
        let task = tokio::spawn(async move {
            let connected = sandbox::reconnect(&shared, &pod, &sandbox).await;
            mailbox.leave(|inbox| {
                inbox.done = Some(Outcome::default());
                match connected {
                    Ok(ips) => inbox.progress.push(Progress::Sandbox(ips)),
                    Err(error) => warn!(pod = pod.full_name(), error, "pod not connected again"),
                }
            });
        });
        self.operation =
            Some(Running { cancel: CancellationToken::new(), _task: AbortOnDropHandle::new(task) });
    }

    /// Says why containers wait, once per wait.
    fn tell_backoff(&mut self, pod: &Pod, view: &PodView, actions: &Actions) {
        let full_name = pod.full_name();
        for wait in &actions.wait {
            let name = &wait.name;
            let delay = i64::try_from(wait.waiting.delay.as_nanos()).unwrap_or(i64::MAX);
            let delay = apimachinery::time::format_duration(delay);
            let message =
                format!("back-off {delay} restarting failed container={name} pod={full_name}");
            self.reasons.insert(name.clone(), ("CrashLoopBackOff".to_owned(), message));
            if self.told.insert(name.clone(), wait.waiting.until) != Some(wait.waiting.until) {
                let reference = container_reference(pod, wait.kind, name);
                let message =
                    format!("Back-off restarting failed container {name} in pod {full_name}");
                self.shared.recorder.warning(&reference, "BackOff", message);
            }
        }
        // Reasons of what runs, or does not wait any more, are history.
        self.reasons.retain(|name, (reason, _)| {
            let runs = view.newest(name).is_some_and(ContainerView::running);
            let waits = actions.wait.iter().any(|wait| wait.name == *name);
            !runs && (waits || reason != "CrashLoopBackOff")
        });
    }

    /// Starts the probes of what runs and ends those of what does not.
    fn run_probes(&mut self, pod: &Pod, view: &PodView) {
        let Some(sandbox) = self.sandbox() else { return };
        let mailbox = self.mailbox.clone();
        let target = probes::Target {
            sandbox,
            ip: view.ips.first().or(self.shared.config.node_ips.first()).copied(),
            recorder: self.shared.recorder.clone(),
            report: Arc::new(move |change| mailbox.leave(|inbox| inbox.probes.push(change))),
        };
        let sidecars = pod.init_containers().iter().filter(|c| is_sidecar(c));
        let all = pod.containers().iter().map(|c| (Kind::Regular, c));
        for (kind, container) in all.chain(sidecars.map(|c| (Kind::Init, c))) {
            let none = container.startup_probe.is_none()
                && container.liveness_probe.is_none()
                && container.readiness_probe.is_none();
            if none {
                continue;
            }
            match view.newest(&container.name).filter(|it| it.running()) {
                None => self.probes.forget(&container.name),
                Some(it) => {
                    let (was_started, was_ready) = self.reported(it);
                    let instance = probes::Instance {
                        container,
                        id: &it.id,
                        started_at: it.started_at.into(),
                        reference: container_reference(pod, kind, &container.name),
                        was_started,
                        was_ready,
                    };
                    self.probes.ensure(&target, &instance);
                }
            }
        }
        for name in self.probes.containers() {
            if view.newest(&name).is_none_or(|it| !it.running()) {
                self.probes.forget(&name);
            }
        }
    }

    /// What was reported of an instance before this kubelet began: it is to stay so until a probe
    /// finds otherwise.
    fn reported(&self, it: &ContainerView) -> (bool, bool) {
        if it.started_at >= self.shared.began {
            return (false, false);
        }
        let id = it.api_id();
        [&self.status.container_statuses, &self.status.init_container_statuses]
            .into_iter()
            .flatten()
            .flatten()
            .find(|status| status.container_id.as_deref() == Some(&id))
            .map_or((false, false), |status| (status.started == Some(true), status.ready))
    }

    /// Ends a pod that was active for longer than it may. Answers when that will be.
    fn check_deadline(&mut self, pod: &Pod) -> Option<Instant> {
        let seconds = pod.spec_or_empty().active_deadline_seconds?;
        let start = self.status.start_time.clone()?.0;
        let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
        let end = start.checked_add(seconds).ok()?;
        if end > Timestamp::now() {
            return Some(instant_of(end));
        }
        if self.eviction.is_none() {
            let message = "Pod was active on the node longer than the specified deadline";
            let reason = "DeadlineExceeded";
            self.shared.recorder.normal(&pod_reference(pod), reason, message);
            self.eviction = Some(Eviction {
                reason: reason.to_owned(),
                message: message.to_owned(),
                grace: None,
                disruption: None,
            });
        }
        None
    }

    fn generate(&mut self, pod: &Pod, view: &PodView, terminal: bool) {
        let evicted = self
            .eviction
            .as_ref()
            .filter(|eviction| !eviction.reason.is_empty())
            .map(|eviction| (eviction.reason.as_str(), eviction.message.as_str()));
        let extra: Vec<PodCondition> = self
            .eviction
            .iter()
            .filter_map(|eviction| eviction.disruption.as_deref())
            .map(|message| {
                condition(pod, "DisruptionTarget", true, "TerminationByKubelet", message)
            })
            .collect();
        let status = generate::status(&generate::Input {
            pod,
            view,
            old: &self.status,
            reasons: &self.reasons,
            probes: self.probes.verdicts(),
            host_ips: &self.shared.config.node_ips,
            terminal,
            evicted,
            extra: &extra,
            pod_resources: pod.spec_or_empty().resources.clone(),
        });
        self.status = status;
    }

    /// Writes the status if the API server has another one. Answers when, if it has to wait.
    fn report(&mut self, pod: &Pod, may_run: bool) -> Option<Instant> {
        if self.gone || self.writing {
            return None;
        }
        let status =
            if may_run { reportable(pod, &self.status, true) } else { self.status.clone() };
        let Some(patch) = write::patch(&self.object, &status) else {
            self.write_after = None;
            return None;
        };
        if self.last_patch.as_ref() == Some(&patch) && self.write_after.is_none() {
            // The server took it and still has something else: it knows better.
            return None;
        }
        let now = Instant::now();
        if self.unhurried(pod, &status, &patch) && self.write_after.is_none() {
            self.write_after = Some(now + UNHURRIED);
        }
        if let Some(after) = self.write_after.filter(|after| *after > now)
            && self.unhurried(pod, &status, &patch)
        {
            return Some(after);
        }
        self.write_after = None;
        self.writing = true;
        self.last_patch = Some(patch.clone());
        write::write(&self.shared, &self.mailbox, &self.object, patch);
        None
    }

    /// Whether a status is likely to be overtaken by the next one within moments: a pod that is just
    /// being set up, or just being stopped.
    fn unhurried(&self, pod: &Pod, status: &PodStatus, patch: &serde_json::Value) -> bool {
        let waits_plainly = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
            status.state.as_ref().and_then(|s| s.waiting.as_ref()).is_some_and(|waiting| {
                matches!(waiting.reason.as_deref(), Some("ContainerCreating" | "PodInitializing"))
            })
        };
        let new = pod.status.as_ref().is_none_or(|s| s.start_time.is_none());
        let setting_up = new
            && status.container_statuses.iter().flatten().all(waits_plainly)
            && status.init_container_statuses.iter().flatten().all(waits_plainly);
        let stopping = matches!(self.stage, Stage::Terminating { .. })
            && patch["status"].get("phase").is_none();
        setting_up || stopping
    }

    fn written(&mut self, written: Result<Arc<Object>, requests::Error>) {
        match written {
            Ok(object) => {
                if object.revision > self.object.revision {
                    self.object = object;
                }
            }
            Err(error) if error.is_not_found() || error.is_conflict() => {
                // Gone, or another pod of that name; the watch will say so.
                debug!(pod = %self.object.key, %error, "status not written");
                self.write_after = Some(Instant::now() + WRITE_RETRY);
                self.last_patch = None;
            }
            Err(error) => {
                warn!(pod = %self.object.key, %error, "status not written");
                self.write_after = Some(Instant::now() + WRITE_RETRY);
                self.last_patch = None;
            }
        }
    }

    fn refresh_volumes(&mut self, pod: &Arc<Pod>) {
        let due = self.refresh.is_some_and(|due| due <= Instant::now());
        if !due || self.refreshing || self.volumes.is_none() {
            return;
        }
        self.refresh = None;
        self.refreshing = true;
        let (shared, mailbox, pod) = (self.shared.clone(), self.mailbox.clone(), pod.clone());
        let ips = self.ips.clone();
        tokio::spawn(async move {
            shared.objects.register(&pod);
            let context = pod.spec_or_empty().security_context.as_ref();
            let none = std::collections::HashMap::new();
            let setup = Setup {
                pod: &pod,
                client: &shared.client,
                objects: &shared.objects,
                tokens: &shared.tokens,
                folders: &shared.folders,
                facts: shared.facts(&ips),
                fs_group: context.and_then(|c| c.fs_group).and_then(|id| u32::try_from(id).ok()),
                images: &none,
            };
            let refreshed = volumes::refresh(&setup).await.map_err(|failure| {
                let message = format!(
                    "MountVolume.SetUp failed for volume {:?} : {}",
                    failure.volume, failure.message
                );
                shared.recorder.warning(&pod_reference(&pod), "FailedMount", message.clone());
                message
            });
            mailbox.leave(|inbox| inbox.refreshed = Some(refreshed));
        });
    }

    fn refreshed(&mut self, refreshed: Result<Option<Timestamp>, String>) {
        let due = match refreshed {
            Ok(due) => due.map(instant_of),
            Err(_) => Some(Instant::now() + Duration::from_secs(10)),
        };
        // News that came meanwhile count.
        self.refresh = [self.refresh, due].into_iter().flatten().min();
    }

    // --- the end of a pod ---

    fn begin_termination(&mut self, pod: &Arc<Pod>) {
        if let Some(operation) = &self.operation {
            operation.cancel.cancel();
        }
        self.probes.stop_liveness();
        let (grace, _) = watch::channel(self.grace(pod));
        self.stage = Stage::Terminating { grace };
    }

    /// How long the pod's containers have: what the API server says, less if the kubelet is in more
    /// of a hurry.
    fn grace(&self, pod: &Pod) -> Duration {
        let deletion = pod.metadata.deletion_grace_period_seconds;
        let eviction = self.eviction.as_ref().and_then(|eviction| eviction.grace);
        let given = deletion.into_iter().chain(eviction).min();
        let seconds = given.or(pod.spec_or_empty().termination_grace_period_seconds).unwrap_or(30);
        let seconds = if self.gone && deletion.is_none() { seconds.min(1) } else { seconds };
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
    }

    /// Stops a pod, and when it has stopped removes what is left of it.
    fn terminate(&mut self, pod: &Arc<Pod>) -> Next {
        let wanted = self.grace(pod);
        let Stage::Terminating { grace } = &self.stage else { return Next::Wait(None) };
        grace.send_if_modified(|grace| {
            let shorter = wanted < *grace;
            *grace = (*grace).min(wanted);
            shorter
        });
        let grace = grace.subscribe();
        let view = self.look(pod);
        if self.operation.is_some() {
            // What was under way is told to stop, or stops the pod already.
            self.generate(pod, &view, false);
            return Next::Wait(self.report(pod, true));
        }
        if view.any_running() {
            self.generate(pod, &view, false);
            self.stop_containers(pod, &view, grace);
            return Next::Wait(self.report(pod, true));
        }
        self.ended(pod, &view);
        self.step_after_end(pod)
    }

    fn stop_containers(&mut self, pod: &Arc<Pod>, view: &PodView, grace: super::kill::Grace) {
        let Some(sandbox) = self.sandbox() else { return };
        let killer = Killer {
            pod: pod.clone(),
            sandbox,
            ips: self.ips.clone(),
            recorder: self.shared.recorder.clone(),
        };
        let running: Vec<_> = view.containers.iter().filter(|it| it.running()).cloned().collect();
        let mailbox = self.mailbox.clone();
        let task = tokio::spawn(async move {
            killer.kill_all(&running, &grace).await;
            mailbox.leave(|inbox| inbox.done = Some(Outcome::default()));
        });
        self.operation =
            Some(Running { cancel: CancellationToken::new(), _task: AbortOnDropHandle::new(task) });
    }

    /// Nothing of the pod runs any more: its last status, and the removal of the rest beside it.
    fn ended(&mut self, pod: &Arc<Pod>, view: &PodView) {
        for name in self.probes.containers() {
            self.probes.forget(&name);
        }
        self.generate(pod, view, true);
        finish(pod, &mut self.status);
        self.stage = Stage::Terminated;
        self.volumes = None;
        let (shared, mailbox, uid) = (self.shared.clone(), self.mailbox.clone(), self.uid.clone());
        let sandbox = self.sandbox();
        let task = tokio::spawn(async move {
            if let Some(sandbox) = sandbox {
                sandbox::remove(&shared, &uid, &sandbox).await;
            }
            shared.objects.unregister(&uid);
            shared.tokens.forget(&uid);
            shared.images.forget(&uid);
            let (folders, id) = (shared.folders.clone(), uid.clone());
            let removed = tokio::task::spawn_blocking(move || folders.remove(&id)).await;
            if let Ok(Err(error)) = removed {
                warn!(uid, %error, "folders of the pod not removed");
            }
            mailbox.leave(|inbox| inbox.done = Some(Outcome::default()));
        });
        self.operation =
            Some(Running { cancel: CancellationToken::new(), _task: AbortOnDropHandle::new(task) });
    }

    fn step_after_end(&mut self, pod: &Arc<Pod>) -> Next {
        self.shared.ledger.remove(&self.uid);
        self.terminated(pod)
    }

    /// Waits for the pod's deletion when all is removed, and completes it.
    fn terminated(&mut self, pod: &Arc<Pod>) -> Next {
        let removing = self.operation.is_some();
        if self.gone {
            if removing {
                return Next::Wait(None);
            }
            self.remove_logs();
            return Next::End;
        }
        self.status.observed_generation =
            self.status.observed_generation.max(Some(pod.generation()).filter(|g| *g > 0));
        let wait = self.report(pod, false);
        if self.writing || removing || wait.is_some() {
            return Next::Wait(wait);
        }
        if pod.deleting() && !self.deleting {
            if let Some(after) = self.write_after.filter(|after| *after > Instant::now()) {
                return Next::Wait(Some(after));
            }
            self.deleting = true;
            write::delete(&self.shared, &self.mailbox, &self.object);
        }
        Next::Wait(None)
    }

    fn remove_logs(&self) {
        let (log_dir, uid) = (self.shared.config.log_dir.clone(), self.uid.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = log_files::remove(&log_dir, &uid)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                warn!(uid, %error, "logs of the pod not removed");
            }
        });
    }
}

/// A point in time on the clock that timers use.
fn instant_of(time: Timestamp) -> Instant {
    let ahead = time.duration_since(Timestamp::now());
    Instant::now() + Duration::try_from(ahead).unwrap_or(Duration::ZERO)
}
