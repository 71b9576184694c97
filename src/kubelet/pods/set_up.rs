//! The one operation that a worker has under way: it brings a pod closer to what is wanted, step by
//! step, and reports after each.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::Sandbox;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    actions::{Actions, Kill, Start},
    containers::{Context, Failure},
    kill::{Killer, fixed, grace_of},
    log_files,
    mailbox::{Mailbox, Outcome, Progress},
    sandbox,
    view::{ContainerView, PodView},
};
use crate::{
    images::Wanted,
    podspec::{Kind, PodExt, is_sidecar, plain, pod_reference},
    shared::Shared,
    volumes::{self, Setup, Volumes},
};

/// A pod that cannot be set up is tried again after this long at first, and later each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(15);

/// An operation.
pub(super) struct Operation {
    pub(super) shared: Arc<Shared>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) pod: Arc<Pod>,
    pub(super) view: PodView,
    pub(super) actions: Actions,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) volumes: Option<Volumes>,
    pub(super) ips: Vec<IpAddr>,
    /// How often the pod could not be set up in a row.
    pub(super) failures: u32,
    pub(super) cancel: CancellationToken,
}

impl Operation {
    /// Runs to the end and tells the worker.
    pub(super) async fn run(mut self) {
        let mailbox = self.mailbox.clone();
        let outcome = match self.steps().await {
            Ok(outcome) => outcome,
            Err(Stop) => {
                let delay = FIRST_RETRY * 2u32.saturating_pow(self.failures.min(10));
                let retry = Some(Instant::now() + delay.min(LAST_RETRY));
                Outcome { retry, failed: true }
            }
        };
        mailbox.leave(|inbox| inbox.done = Some(outcome));
    }

    fn tell(&self, progress: Progress) {
        self.mailbox.leave(|inbox| inbox.progress.push(progress));
    }

    async fn steps(&mut self) -> Result<Outcome, Stop> {
        if self.actions.kill_pod {
            self.kill_pod().await;
            if !self.actions.create_sandbox {
                return Ok(Outcome::default());
            }
        }
        for kill in std::mem::take(&mut self.actions.kill) {
            self.kill(&kill).await;
        }
        if self.actions.reset {
            self.reset().await;
            return Ok(Outcome::default());
        }
        if self.actions.start.is_empty() && !self.actions.create_sandbox {
            return Ok(Outcome::default());
        }
        self.check_network()?;
        let shared = self.shared.clone();
        // Signers may be slow, and others are not to wait for them.
        tokio::select! {
            () = shared.certificates.ready(&self.pod) => {}
            () = self.cancel.cancelled() => return Ok(Outcome::default()),
        }
        let Ok(slot) = shared.starts.acquire().await else { return Err(Stop) };
        if self.cancel.is_cancelled() {
            return Ok(Outcome::default());
        }
        let uid = self.pod.uid().to_owned();
        let pod_dir = shared.folders.make(&uid).map_err(|error| {
            let message = format!("error making pod data directories: {error}");
            shared.recorder.warning(&pod_reference(&self.pod), "Failed", message);
            Stop
        })?;
        shared.objects.register(&self.pod);
        let images = self.image_volumes().await?;
        // The sandbox does not need the volumes, so both are made at the same time.
        let volumes = self.set_up_volumes(&images);
        let sandbox = self.make_sandbox(&pod_dir);
        let (volumes, sandbox) = tokio::join!(volumes, sandbox);
        let (sandbox, ips) = sandbox?;
        let volumes = volumes?;
        drop(slot);
        self.tell(Progress::Sandbox(ips.clone()));
        self.tell(Progress::Volumes(volumes.clone()));
        let pod = self.pod.clone();
        let context = Context {
            shared: &shared,
            pod: &pod,
            sandbox: &sandbox,
            ips: &ips,
            volumes: &volumes,
            pod_dir: &pod_dir,
            cancel: &self.cancel,
        };
        Ok(self.start_all(&context).await)
    }

    fn check_network(&self) -> Result<(), Stop> {
        match self.shared.network.not_ready() {
            Some(why) if !self.pod.host_network() => {
                let message = format!("network is not ready: {why}");
                let reference = pod_reference(&self.pod);
                self.shared.recorder.warning(&reference, "NetworkNotReady", message);
                Err(Stop)
            }
            _ => Ok(()),
        }
    }

    fn killer(&self) -> Option<Killer> {
        Some(Killer {
            pod: self.pod.clone(),
            sandbox: self.sandbox.clone()?,
            ips: self.ips.clone(),
            recorder: self.shared.recorder.clone(),
        })
    }

    async fn kill_pod(&self) {
        let Some(killer) = self.killer() else { return };
        let running: Vec<ContainerView> =
            self.view.containers.iter().filter(|it| it.running()).cloned().collect();
        let spec = self.pod.spec_or_empty();
        let grace = spec.termination_grace_period_seconds.unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        killer.kill_all(&running, &fixed(grace)).await;
    }

    async fn kill(&self, kill: &Kill) {
        let Some(killer) = self.killer() else { return };
        let container = self.pod.find_container(&kill.name).map(|(_, container)| container);
        let grace = fixed(grace_of(&self.pod, container.as_ref(), kill.reason));
        killer.kill(&kill.name, &kill.id, kill.message.clone(), grace, None).await;
    }

    /// Removes all instances of all containers.
    async fn reset(&self) {
        let Some(sandbox) = &self.sandbox else { return };
        for it in &self.view.containers {
            if it.running()
                && let Some(killer) = self.killer()
            {
                let message = "killing".to_owned();
                killer.kill(&it.name, &it.id, message, fixed(Duration::ZERO), None).await;
            }
            if let Err(error) = sandbox.remove_container(&it.id).await {
                debug!(container = %it.id, %error, "container not removed");
            }
            self.tell(Progress::Removed(it.name.clone()));
        }
    }

    /// The images of image volumes by volume name; all of them before any container starts.
    async fn image_volumes(&self) -> Result<HashMap<String, String>, Stop> {
        let mut images = HashMap::new();
        let reference = pod_reference(&self.pod);
        for volume in self.pod.spec_or_empty().volumes.iter().flatten() {
            let Some(source) = &volume.image else { continue };
            let wanted = Wanted {
                pod: &self.pod,
                reference: &reference,
                image: source.reference.as_deref().unwrap_or_default(),
                policy: source.pull_policy.as_deref(),
            };
            let ensured = tokio::select! {
                ensured = self.shared.images.ensure(&wanted, &self.shared.objects) => ensured,
                () = self.cancel.cancelled() => return Err(Stop),
            };
            match ensured {
                Ok(image) => {
                    images.insert(volume.name.clone(), image.id);
                }
                Err(why) => {
                    for start in &self.actions.start {
                        self.tell(Progress::Failed {
                            container: start.name.clone(),
                            reason: why.reason.to_owned(),
                            message: why.message.clone(),
                            instance: None,
                        });
                    }
                    return Err(Stop);
                }
            }
        }
        Ok(images)
    }

    async fn set_up_volumes(&self, images: &HashMap<String, String>) -> Result<Volumes, Stop> {
        let known = self.pod.ephemeral_containers().is_empty();
        if let (Some(volumes), true) = (&self.volumes, known) {
            return Ok(volumes.clone());
        }
        let context = self.pod.spec_or_empty().security_context.as_ref();
        let setup = Setup {
            pod: &self.pod,
            client: &self.shared.client,
            objects: &self.shared.objects,
            tokens: &self.shared.tokens,
            certificates: &self.shared.certificates,
            trust_bundles: &self.shared.trust_bundles,
            folders: &self.shared.folders,
            facts: self.shared.facts(&self.ips),
            fs_group: context.and_then(|c| c.fs_group).and_then(|id| u32::try_from(id).ok()),
            images,
        };
        let made = tokio::select! {
            made = volumes::set_up(&setup) => made,
            () = self.cancel.cancelled() => return Err(Stop),
        };
        made.map_err(|failure| {
            let message = format!(
                "MountVolume.SetUp failed for volume {:?} : {}",
                failure.volume, failure.message
            );
            self.shared.recorder.warning(&pod_reference(&self.pod), "FailedMount", message);
            Stop
        })
    }

    async fn make_sandbox(
        &self,
        pod_dir: &std::path::Path,
    ) -> Result<(Sandbox, Vec<IpAddr>), Stop> {
        if let (Some(sandbox), false) = (&self.sandbox, self.actions.create_sandbox) {
            return Ok((sandbox.clone(), self.ips.clone()));
        }
        let reference = pod_reference(&self.pod);
        if self.actions.sandbox_changed {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.shared.recorder.normal(&reference, "SandboxChanged", message);
        }
        if let Some(old) = &self.sandbox {
            sandbox::remove(&self.shared, self.pod.uid(), old).await;
        }
        sandbox::create(&self.shared, &self.pod, pod_dir).await.map_err(|why| {
            if !self.cancel.is_cancelled() {
                let message = format!("Failed to create pod sandbox: {why}");
                self.shared.recorder.warning(&reference, "FailedCreatePodSandBox", message);
            }
            Stop
        })
    }

    async fn start_all(&self, context: &Context<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        for start in &self.actions.start {
            if self.cancel.is_cancelled() {
                break;
            }
            let Some(container) = self.container(start) else { continue };
            let previous = self.view.newest(&start.name);
            let name = start.name.clone();
            let started = || self.tell(Progress::Started(name));
            match context.start(start.kind, &container, previous, started).await {
                Ok(()) => self.prune(context, &start.name).await,
                Err(failure) => {
                    self.failed(start, failure, &mut outcome);
                    // The next ones wait for an init container that is not a sidecar.
                    if start.kind == Kind::Init && !is_sidecar(&container) {
                        break;
                    }
                }
            }
        }
        outcome
    }

    fn container(&self, start: &Start) -> Option<Container> {
        let of = |list: &[Container]| list.iter().find(|c| c.name == start.name).cloned();
        match start.kind {
            Kind::Init => of(self.pod.init_containers()),
            Kind::Regular => of(self.pod.containers()),
            Kind::Ephemeral => {
                self.pod.ephemeral_containers().iter().find(|c| c.name == start.name).map(plain)
            }
        }
    }

    fn failed(&self, start: &Start, failure: Failure, outcome: &mut Outcome) {
        if failure.cancelled {
            return;
        }
        let retry = failure.retry;
        outcome.retry = Some(outcome.retry.map_or(retry, |other| other.min(retry)));
        self.tell(Progress::Failed {
            container: start.name.clone(),
            reason: failure.reason,
            message: failure.message,
            instance: failure.instance,
        });
    }

    /// Keeps the newest instance of a container and the one before it.
    async fn prune(&self, context: &Context<'_>, name: &str) {
        let mut instances: Vec<_> =
            context.sandbox.containers().into_iter().filter(|c| c.name == name).collect();
        instances.sort_by_key(|instance| std::cmp::Reverse(instance.attempt));
        for old in instances.iter().skip(2) {
            if let Err(error) = context.sandbox.remove_container(&old.id).await {
                debug!(container = %old.id, %error, "old instance not removed");
                continue;
            }
            let log_dir = &self.shared.config.log_dir;
            log_files::remove_instance(&log_files::file(log_dir, &self.pod, name, old.attempt));
        }
    }
}

/// The pod cannot be set up now; the reason is in an event.
#[derive(Debug)]
struct Stop;
