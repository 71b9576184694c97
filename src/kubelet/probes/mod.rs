//! Probes: whether containers have started, live and are ready.
//!
//! Each probe of a running container instance is one task with one timer. Liveness and readiness
//! probes begin when the container has started, that is at once or when its startup probe
//! succeeded; the pod's worker decides which probes run.

mod exec;
mod grpc;
mod http;
mod net;
mod state;
mod tcp;

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::events::Recorder;
use k8s_openapi::{
    api::core::v1::{Container, ObjectReference, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use runtime::Sandbox;
use state::{Event, ProbeState};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// A container that fails a probe at this age may only not have got to its socket yet: the failure
/// does not count. Upstream's probes tick from before the container's start, so their first look
/// comes up to a period after it; ours comes at once, so that what is quick is ready at once.
/// Probes are at least this far apart, so it is one look that does not count.
const EARLY: Duration = Duration::from_secs(1);

pub(crate) use http::{HttpGet, get as http_get};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Startup,
    Liveness,
    Readiness,
}

impl Purpose {
    /// As upstream's events name it.
    fn name(self) -> &'static str {
        match self {
            Purpose::Startup => "Startup",
            Purpose::Liveness => "Liveness",
            Purpose::Readiness => "Readiness",
        }
    }
}

/// What one attempt of a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// Fine, but there is something to tell.
    Warning(String),
    Failure(String),
    /// The probe could not be made; it says nothing about the container.
    Error(String),
}

/// What is known about a pod's containers by name. A container without an entry has no such probe,
/// or does not run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts {
    containers: HashMap<String, Verdict>,
}

#[derive(Clone, Debug, Default)]
struct Verdict {
    /// The instance that the verdict is about.
    id: String,
    startup: Option<bool>,
    liveness: Option<bool>,
    readiness: Option<bool>,
}

impl Verdicts {
    /// Whether a running container has started: it has no startup probe or that one succeeded.
    pub(crate) fn started(&self, container: &str) -> bool {
        self.containers.get(container).is_none_or(|v| v.startup != Some(false))
    }

    /// Whether a started container is ready: it has no readiness probe or that one succeeded.
    pub(crate) fn ready(&self, container: &str) -> bool {
        self.containers.get(container).is_none_or(|v| v.readiness != Some(false))
    }
}

/// A probe's result has changed. Sent to the pod's worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) container: String,
    pub(crate) id: String,
    pub(crate) purpose: Purpose,
    pub(crate) healthy: bool,
}

/// Where probes report to.
pub(crate) type Report = Arc<dyn Fn(Change) + Send + Sync>;

/// What the probes of one pod need.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) sandbox: Sandbox,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) recorder: Recorder,
    pub(crate) report: Report,
}

/// A container as its probes see it.
pub(crate) struct Instance<'a> {
    pub(crate) container: &'a Container,
    pub(crate) id: &'a str,
    pub(crate) started_at: SystemTime,
    pub(crate) reference: ObjectReference,
    /// What was reported of this very instance before the agent was restarted.
    pub(crate) was_started: bool,
    /// See `was_started`.
    pub(crate) was_ready: bool,
}

/// The probes of one pod.
#[derive(Default)]
pub(crate) struct Probes {
    verdicts: Verdicts,
    /// Which containers failed their startup or liveness probe and are to be killed.
    failed: HashMap<String, Purpose>,
    tasks: HashMap<(String, Purpose), AbortOnDropHandle<()>>,
}

impl Probes {
    /// The verdicts at this moment.
    pub(crate) fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Whether an instance failed its startup or liveness probe, and which.
    pub(crate) fn failed(&self, id: &str) -> Option<Purpose> {
        self.failed.get(id).copied()
    }

    /// Takes in a result. Answers whether it changes anything.
    pub(crate) fn apply(&mut self, change: &Change) -> bool {
        let Some(verdict) = self.verdicts.containers.get_mut(&change.container) else {
            return false;
        };
        if verdict.id != change.id {
            return false;
        }
        let field = match change.purpose {
            Purpose::Startup => &mut verdict.startup,
            Purpose::Liveness => &mut verdict.liveness,
            Purpose::Readiness => &mut verdict.readiness,
        };
        let changed = *field != Some(change.healthy);
        *field = Some(change.healthy);
        if !change.healthy && change.purpose != Purpose::Readiness {
            self.failed.insert(change.id.clone(), change.purpose);
        }
        changed
    }

    /// Starts the probes that should run for a container that runs.
    pub(crate) fn ensure(&mut self, target: &Target, instance: &Instance<'_>) {
        let container = instance.container;
        let name = &container.name;
        if self.verdicts.containers.get(name).is_none_or(|v| v.id != instance.id) {
            self.forget(name);
            let verdict = Verdict {
                id: instance.id.to_owned(),
                startup: container.startup_probe.as_ref().map(|_| instance.was_started),
                liveness: container.liveness_probe.as_ref().map(|_| true),
                readiness: container.readiness_probe.as_ref().map(|_| instance.was_ready),
            };
            self.verdicts.containers.insert(name.clone(), verdict);
        }
        let purposes: &[_] = if self.verdicts.started(name) {
            self.tasks.remove(&(name.clone(), Purpose::Startup));
            &[
                (Purpose::Liveness, &container.liveness_probe),
                (Purpose::Readiness, &container.readiness_probe),
            ]
        } else {
            &[(Purpose::Startup, &container.startup_probe)]
        };
        for (purpose, probe) in purposes {
            let Some(probe) = probe else { continue };
            let key = (name.clone(), *purpose);
            if self.failed.contains_key(instance.id) && *purpose != Purpose::Readiness {
                continue;
            }
            if let Entry::Vacant(free) = self.tasks.entry(key) {
                let task = Task::new(target, instance, *purpose, probe);
                free.insert(AbortOnDropHandle::new(tokio::spawn(task.run())));
            }
        }
    }

    /// Ends the probes of a container that does not run any more.
    pub(crate) fn forget(&mut self, container: &str) {
        self.tasks.retain(|(name, _), _| name != container);
        if let Some(verdict) = self.verdicts.containers.remove(container) {
            self.failed.remove(&verdict.id);
        }
    }

    /// Ends startup and liveness probes: the pod terminates, and may still become unready.
    pub(crate) fn stop_liveness(&mut self) {
        self.tasks.retain(|(_, purpose), _| *purpose == Purpose::Readiness);
    }

    /// The containers that have verdicts.
    pub(crate) fn containers(&self) -> Vec<String> {
        self.verdicts.containers.keys().cloned().collect()
    }
}

/// One probe of one container instance.
struct Task {
    target: Target,
    purpose: Purpose,
    container: String,
    id: String,
    probe: Probe,
    /// What an exec probe runs, with the container's plain environment variables put in.
    command: Vec<String>,
    ports: HashMap<String, u16>,
    reference: ObjectReference,
    started_at: SystemTime,
    first: Instant,
}

impl Task {
    fn new(target: &Target, instance: &Instance<'_>, purpose: Purpose, probe: &Probe) -> Self {
        let delay = seconds(probe.initial_delay_seconds, 0);
        let age = instance.started_at.elapsed().unwrap_or_default();
        let container = instance.container;
        let command = probe.exec.as_ref().and_then(|e| e.command.clone()).unwrap_or_default();
        Self {
            target: target.clone(),
            purpose,
            container: container.name.clone(),
            id: instance.id.to_owned(),
            probe: probe.clone(),
            command: crate::env::expand_static(&command, container),
            ports: named_ports(container),
            reference: instance.reference.clone(),
            started_at: instance.started_at,
            first: Instant::now() + delay.saturating_sub(age),
        }
    }

    async fn run(self) {
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let mut state = ProbeState::new(
            self.probe.success_threshold.unwrap_or(1),
            self.probe.failure_threshold.unwrap_or(3),
        );
        let mut next = self.first;
        loop {
            tokio::time::sleep_until(next).await;
            next = (next + period).max(Instant::now());
            let early = self.started_at.elapsed().is_ok_and(|age| age < EARLY);
            let healthy = match self.attempt().await {
                Outcome::Success => true,
                Outcome::Failure(_) if early => continue,
                Outcome::Warning(text) => {
                    let message = format!("{} probe warning: {text}", self.purpose.name());
                    self.target.recorder.warning(&self.reference, "ProbeWarning", message);
                    true
                }
                Outcome::Failure(text) => {
                    let message = format!("{} probe failed: {text}", self.purpose.name());
                    self.target.recorder.warning(&self.reference, "Unhealthy", message);
                    false
                }
                Outcome::Error(text) => {
                    let name = self.purpose.name();
                    let message =
                        format!("{name} probe errored and resulted in unknown state: {text}");
                    self.target.recorder.warning(&self.reference, "Unhealthy", message);
                    continue;
                }
            };
            let Event::Crossed(healthy) = state.record(healthy) else { continue };
            (self.target.report)(Change {
                container: self.container.clone(),
                id: self.id.clone(),
                purpose: self.purpose,
                healthy,
            });
            // After its verdict a startup probe is over; a failed liveness probe has done its work.
            if self.purpose == Purpose::Startup || (self.purpose == Purpose::Liveness && !healthy) {
                return;
            }
        }
    }

    /// Up to three attempts, as long as the probe itself cannot be made.
    async fn attempt(&self) -> Outcome {
        let mut outcome = Outcome::Error(String::new());
        for _ in 0..3 {
            outcome = self.once().await;
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
        }
        outcome
    }

    async fn once(&self) -> Outcome {
        let timeout = seconds(self.probe.timeout_seconds, 1).max(Duration::from_secs(1));
        if self.probe.exec.is_some() {
            return exec::probe(&self.target.sandbox, &self.id, &self.command, timeout).await;
        }
        let ip = self.target.ip.map(|ip| ip.to_string()).unwrap_or_default();
        if let Some(get) = &self.probe.http_get {
            let port = match self.port(&get.port) {
                Ok(port) => port,
                Err(text) => return Outcome::Error(text),
            };
            let request = HttpGet {
                tls: get.scheme.as_deref() == Some("HTTPS"),
                host: get.host.clone().filter(|h| !h.is_empty()).unwrap_or(ip),
                port,
                path: get.path.clone().unwrap_or_default(),
                headers: get
                    .http_headers
                    .iter()
                    .flatten()
                    .map(|h| (h.name.clone(), h.value.clone()))
                    .collect(),
                agent: "probe",
            };
            return http::probe(&request, timeout).await;
        }
        if let Some(socket) = &self.probe.tcp_socket {
            let host = socket.host.clone().filter(|h| !h.is_empty()).unwrap_or(ip);
            return match self.port(&socket.port) {
                Ok(port) => tcp::probe(&host, port, timeout).await,
                Err(text) => Outcome::Error(text),
            };
        }
        if let Some(call) = &self.probe.grpc {
            let port = u16::try_from(call.port).unwrap_or(0);
            let service = call.service.as_deref().unwrap_or_default();
            return grpc::probe(&ip, port, service, timeout).await;
        }
        Outcome::Error(format!("missing probe handler for {}", self.container))
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        resolve_port(port, &self.ports)
    }
}

/// The named ports of a container.
pub(crate) fn named_ports(container: &Container) -> HashMap<String, u16> {
    container
        .ports
        .iter()
        .flatten()
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
        .collect()
}

/// A port by number or by the name that the container gives it.
pub(crate) fn resolve_port(
    port: &IntOrString,
    ports: &HashMap<String, u16>,
) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => match ports.get(name) {
            Some(number) => Some(*number),
            None => Some(
                name.parse::<u16>()
                    .map_err(|_| format!("couldn't find port: {name:?} in container"))?,
            ),
        },
    };
    number.filter(|n| *n > 0).ok_or_else(|| "invalid port number: 0".to_owned())
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.map_or(default, |v| u64::try_from(v).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
