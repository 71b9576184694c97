//! The end of a pod: its containers are stopped, its last status is written, what it left is removed,
//! and when all of that is done its object is, too.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::{Next, Running, Stage, Worker};
use crate::{
    pods::{
        kill::{self, Killer},
        log_files,
        mailbox::Outcome,
        sandbox,
        view::PodView,
        write,
    },
    podspec::PodExt,
    status::finish::finish,
};

impl Worker {
    pub(super) fn begin_termination(&mut self, pod: &Arc<Pod>) {
        if let Some(operation) = &self.operation {
            operation.cancel.cancel();
        }
        self.probes.stop_liveness();
        self.end_resizing();
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
    pub(super) fn terminate(&mut self, pod: &Arc<Pod>) -> Next {
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
        self.ended(pod, view);
        self.step_after_end(pod)
    }

    fn stop_containers(&mut self, pod: &Arc<Pod>, view: &PodView, grace: kill::Grace) {
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
        self.operation = Some(Running::new(task));
    }

    /// Nothing of the pod runs any more: its last status, and the removal of the rest beside it.
    fn ended(&mut self, pod: &Arc<Pod>, mut view: PodView) {
        for name in self.probes.containers() {
            self.probes.forget(&name);
        }
        // It is about to be removed.
        view.sandbox = false;
        self.generate(pod, &view, true);
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
            shared.certificates.forget(&uid);
            shared.trust_bundles.forget(&uid);
            shared.images.forget(&uid);
            let (folders, id) = (shared.folders.clone(), uid.clone());
            let removed = tokio::task::spawn_blocking(move || folders.remove(&id)).await;
            if let Ok(Err(error)) = removed {
                warn!(uid, %error, "folders of the pod not removed");
            }
            mailbox.leave(|inbox| inbox.done = Some(Outcome::default()));
        });
        self.operation = Some(Running::new(task));
    }

    fn step_after_end(&mut self, pod: &Arc<Pod>) -> Next {
        self.shared.ledger.remove(&self.uid);
        self.terminated(pod)
    }

    /// Waits for the pod's deletion when all is removed, and completes it.
    pub(super) fn terminated(&mut self, pod: &Arc<Pod>) -> Next {
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
