//! Keeps a pod running as it is wanted.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Next, Running, Worker, instant_of};
use crate::{
    pods::{
        actions::{self, Actions, backoff_key, decide},
        mailbox::{Eviction, Outcome, Progress},
        resize::Plan,
        sandbox,
        set_up::Operation,
        view::{ContainerView, PodView},
    },
    podspec::{Kind, PodExt, container_reference, is_sidecar, is_terminal, pod_reference},
    probes,
    status::generate,
    volumes::{self, Setup},
};

/// Volumes that could not be brought up to date are tried again after this long at first, and later
/// each time.
const FIRST_REFRESH: Duration = Duration::from_secs(10);
const LAST_REFRESH: Duration = Duration::from_secs(120);

impl Worker {
    /// Keeps a running pod as it is wanted.
    pub(super) fn keep(&mut self, pod: &Arc<Pod>) -> Next {
        let deadline = self.check_deadline(pod);
        if self.gone || pod.deleting() || self.eviction.is_some() || is_terminal(pod.phase()) {
            self.begin_termination(pod);
            return self.terminate(pod);
        }
        let view = self.look(pod);
        self.run_probes(pod, &view);
        let restarting_all = generate::restarting_all(pod, &view, &self.status);
        let resize = self.plan_resize(pod, &view);
        let actions = decide(&actions::Input {
            pod,
            view: &view,
            probes: &self.probes,
            backoff: &self.backoff,
            now: Timestamp::now(),
            restarting_all,
            resize_restarts: &resize.restarts,
        });
        self.tell_backoff(pod, &view, &actions);
        // The end of a container that is replaced and the beginning of the next are told together, as
        // one of upstream's syncs does both before it looks again: endpoints do not flap.
        if !self.operation.as_ref().is_some_and(|operation| operation.replaces) {
            self.generate(pod, &view, false);
        }
        if is_terminal(self.status.phase.as_deref().unwrap_or_default()) {
            self.begin_termination(pod);
            return self.terminate(pod);
        }
        let mut wake = self.act(pod, view, actions, &resize);
        self.refresh_volumes(pod);
        wake.extend(deadline);
        wake.extend(self.refresh.filter(|_| !self.refreshing && self.has_volumes()));
        wake.extend(self.report(pod, true));
        Next::Wait(wake.into_iter().min())
    }

    /// Starts what has to be done. Answers when to look again.
    fn act(
        &mut self,
        pod: &Arc<Pod>,
        view: PodView,
        actions: Actions,
        resize: &Plan,
    ) -> Vec<Instant> {
        let mut wake: Vec<Instant> = actions.wake().map(instant_of).into_iter().collect();
        if self.operation.is_some() {
            return wake;
        }
        if self.reconnect && self.shared.network.not_ready().is_none() {
            self.reconnect = false;
            self.reconnect_sandbox(pod);
            return wake;
        }
        match self.resize(pod, resize) {
            Ok(true) => return wake,
            Ok(false) => {}
            Err(retry) => wake.push(retry),
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
        if actions.create_sandbox {
            self.resizing.new_sandbox();
        }
        let cancel = CancellationToken::new();
        let replaces = actions.replaces();
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
        let task = tokio::spawn(operation.run());
        self.operation = Some(Running { cancel, replaces, ..Running::new(task) });
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
        self.operation = Some(Running::new(task));
    }

    /// Says why containers wait, once per wait.
    fn tell_backoff(&mut self, pod: &Pod, view: &PodView, actions: &Actions) {
        let full_name = pod.full_name();
        // What is being started at this moment was put on the list of those that will have to wait,
        // and does not wait yet.
        let waiting = if self.operation.is_none() { &*actions.wait } else { &[] };
        for wait in waiting {
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

    fn has_volumes(&self) -> bool {
        self.volumes.is_some() || self.adopted
    }

    fn refresh_volumes(&mut self, pod: &Arc<Pod>) {
        let due = self.refresh.is_some_and(|due| due <= Instant::now());
        if !due || self.refreshing || !self.has_volumes() {
            return;
        }
        self.refresh = None;
        self.refreshing = true;
        let (shared, mailbox, pod) = (self.shared.clone(), self.mailbox.clone(), pod.clone());
        let ips = self.ips.clone();
        tokio::spawn(async move {
            shared.objects.register(&pod);
            shared.certificates.ready(&pod).await;
            let context = pod.spec_or_empty().security_context.as_ref();
            let none = std::collections::HashMap::new();
            let setup = Setup {
                pod: &pod,
                client: &shared.client,
                objects: &shared.objects,
                tokens: &shared.tokens,
                certificates: &shared.certificates,
                trust_bundles: &shared.trust_bundles,
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

    pub(super) fn refreshed(&mut self, refreshed: Result<Option<Timestamp>, String>) {
        let due = match refreshed {
            Ok(due) => {
                self.stale = 0;
                due.map(instant_of)
            }
            Err(_) => {
                let delay = FIRST_REFRESH * 2u32.saturating_pow(self.stale.min(10));
                self.stale += 1;
                Some(Instant::now() + delay.min(LAST_REFRESH))
            }
        };
        // News that came meanwhile count.
        self.refresh = [self.refresh, due].into_iter().flatten().min();
    }
}
