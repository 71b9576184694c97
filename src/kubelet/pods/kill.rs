//! Stopping containers: the hook before the stop, the signal, and the kill when time is up.
//! Sidecars stop after the containers that they serve, the last one first.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use client::events::Recorder;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{Sandbox, Signal};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{actions::KillReason, hooks, view::ContainerView};
use crate::podspec::{PodExt, container_reference, is_sidecar};

/// Every container gets this long, to spare it a needless SIGKILL.
const LEAST: Duration = Duration::from_secs(2);

/// How long a pod's containers have to stop; may shrink while they do.
pub(crate) type Grace = watch::Receiver<Duration>;

/// What is needed to stop containers of a pod.
pub(crate) struct Killer {
    pub(crate) pod: Arc<Pod>,
    pub(crate) sandbox: Sandbox,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) recorder: Recorder,
}

/// The grace period of a container that is killed for `reason`.
pub(crate) fn grace_of(pod: &Pod, container: Option<&Container>, reason: KillReason) -> Duration {
    let spec = pod.spec_or_empty();
    let seconds = |value: i64| Duration::from_secs(u64::try_from(value).unwrap_or(0));
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        return seconds(grace);
    }
    let probe = match reason {
        KillReason::StartupProbe => container.and_then(|c| c.startup_probe.as_ref()),
        KillReason::LivenessProbe => container.and_then(|c| c.liveness_probe.as_ref()),
        KillReason::Other => None,
    };
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    match own.or(spec.termination_grace_period_seconds) {
        Some(grace) => seconds(grace),
        None => LEAST,
    }
}

impl Killer {
    /// Stops all of `running` at once, sidecars in their order.
    pub(crate) async fn kill_all(&self, running: &[ContainerView], grace: &Grace) {
        let order = Order::new(&self.pod, running);
        let work = running.iter().map(|it| {
            let message = format!("Stopping container {}", it.name);
            self.kill(&it.name, &it.id, message, grace.clone(), Some(&order))
        });
        join_all(work).await;
    }

    /// Stops one container.
    pub(crate) async fn kill(
        &self,
        name: &str,
        id: &str,
        message: String,
        mut grace: Grace,
        order: Option<&Order>,
    ) {
        let began = Instant::now();
        let found = self.pod.find_container(name);
        if let Some((kind, _)) = &found {
            let reference = container_reference(&self.pod, *kind, name);
            self.recorder.normal(&reference, "Killing", message);
        }
        let container = found.as_ref().map(|(_, container)| container);
        let hook = container
            .and_then(|c| c.lifecycle.as_ref())
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let (Some(container), Some(hook)) = (container, hook)
            && !grace.borrow().is_zero()
        {
            let target = hooks::Target {
                pod: &self.pod,
                container,
                sandbox: &self.sandbox,
                id,
                ips: &self.ips,
                recorder: &self.recorder,
            };
            tokio::select! {
                done = hooks::run(&target, hook) => if let Err(why) = done {
                    debug!(pod = %self.pod.full_name(), container = name, why, "preStop hook failed");
                    // Not the reason: a server's answer may hold secrets.
                    if let Some((kind, _)) = &found {
                        let reference = container_reference(&self.pod, *kind, name);
                        self.recorder.warning(&reference, "FailedPreStopHook", "PreStopHook failed");
                    }
                },
                () = expired(began, &mut grace, Duration::ZERO) => {}
                // Nothing is left to prepare for its end.
                _ = self.sandbox.wait(id) => {}
            }
        }
        if let Some(order) = order {
            tokio::select! {
                () = order.turn(name) => {}
                () = expired(began, &mut grace, Duration::ZERO) => {}
            }
        }
        self.stop(name, id, began, &mut grace).await;
        if let Some(order) = order {
            order.stopped(name);
        }
    }

    /// Signals, waits, kills, waits.
    async fn stop(&self, name: &str, id: &str, began: Instant, grace: &mut Grace) {
        let signal = self
            .sandbox
            .container_spec(id)
            .and_then(|spec| Signal::parse(&spec.stop_signal))
            .unwrap_or(Signal::TERM);
        if let Err(error) = self.sandbox.signal(id, signal).await {
            debug!(pod = %self.pod.full_name(), container = name, %error, "container not signalled");
        }
        let least = began.elapsed() + LEAST;
        tokio::select! {
            ended = self.sandbox.wait(id) => if ended.is_ok() { return },
            () = expired(began, grace, least) => {}
        }
        if let Err(error) = self.sandbox.kill(id).await {
            warn!(pod = %self.pod.full_name(), container = name, %error, "container not killed");
        }
        if let Err(error) = self.sandbox.wait(id).await {
            debug!(pod = %self.pod.full_name(), container = name, %error, "end not awaited");
        }
    }
}

/// Waits until the grace period, counted from `began` and at least `least`, is over; follows it when
/// it shrinks.
async fn expired(began: Instant, grace: &mut Grace, least: Duration) {
    loop {
        let deadline = began + (*grace.borrow_and_update()).max(least);
        tokio::select! {
            () = sleep_until(deadline) => return,
            changed = grace.changed() => if changed.is_err() {
                return sleep_until(deadline).await;
            },
        }
    }
}

/// A grace period that does not change.
pub(crate) fn fixed(grace: Duration) -> Grace {
    watch::channel(grace).1
}

/// Which containers wait for which others to stop.
pub(crate) struct Order {
    stopped: HashMap<String, watch::Sender<bool>>,
    waits_for: HashMap<String, Vec<String>>,
}

impl Order {
    fn new(pod: &Pod, running: &[ContainerView]) -> Self {
        let runs = |name: &str| running.iter().any(|it| it.name == name);
        let regular: Vec<String> = pod.containers().iter().map(|c| c.name.clone()).collect();
        let mut waits_for = HashMap::new();
        let mut later: Option<String> = None;
        for container in pod.init_containers().iter().rev().filter(|c| is_sidecar(c)) {
            let mut before = regular.clone();
            before.extend(later.replace(container.name.clone()));
            before.retain(|name| runs(name));
            waits_for.insert(container.name.clone(), before);
        }
        let stopped =
            running.iter().map(|it| (it.name.clone(), watch::Sender::new(false))).collect();
        Self { stopped, waits_for }
    }

    async fn turn(&self, name: &str) {
        for before in self.waits_for.get(name).into_iter().flatten() {
            if let Some(stopped) = self.stopped.get(before) {
                // The sender lives as long as this, so waiting cannot fail.
                let _ = stopped.subscribe().wait_for(|stopped| *stopped).await;
            }
        }
    }

    fn stopped(&self, name: &str) {
        if let Some(stopped) = self.stopped.get(name) {
            stopped.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn probes_may_shorten_the_grace_period() {
        let mut pod = pod(json!({"terminationGracePeriodSeconds": 30, "containers": [
            {"name": "a", "livenessProbe": {"terminationGracePeriodSeconds": 5}}]}));
        let container = pod.containers()[0].clone();
        let of = |pod: &Pod, reason| grace_of(pod, Some(&container), reason).as_secs();
        assert_eq!(of(&pod, KillReason::LivenessProbe), 5);
        assert_eq!(of(&pod, KillReason::StartupProbe), 30);
        pod.metadata.deletion_grace_period_seconds = Some(1);
        assert_eq!(of(&pod, KillReason::LivenessProbe), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn sidecars_stop_last_and_in_reverse() {
        let side = |name: &str| json!({"name": name, "restartPolicy": "Always"});
        let pod = pod(json!({
            "initContainers": [side("s"), side("t")], "containers": [{"name": "a"}]}));
        let view = |name: &str| ContainerView { name: name.to_owned(), ..ContainerView::default() };
        let order = Arc::new(Order::new(&pod, &[view("a"), view("s"), view("t")]));
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let stop = |name: &'static str| {
            let (order, log) = (order.clone(), log.clone());
            tokio::spawn(async move {
                order.turn(name).await;
                log.lock().unwrap().push(name);
                order.stopped(name);
            })
        };
        let tasks = [stop("s"), stop("t")];
        tokio::task::yield_now().await;
        assert!(log.lock().unwrap().is_empty());
        stop("a").await.unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*log.lock().unwrap(), ["a", "t", "s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_period_may_shrink_while_it_runs() {
        let (sender, mut grace) = watch::channel(Duration::from_secs(30));
        let began = Instant::now();
        let waiting = tokio::spawn(async move { expired(began, &mut grace, LEAST).await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        sender.send_replace(Duration::from_secs(1));
        waiting.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
