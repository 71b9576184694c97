//! What has to be done to bring a pod from what runs to what is wanted. Pure: it looks and decides.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    backoff::CrashBackoff,
    view::{ContainerView, PodView},
};
use crate::{
    podspec::{Kind, PodExt, is_sidecar, plain, should_restart},
    probes::{Probes, Purpose},
};

/// Why a container is killed; probes may name a grace period of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    StartupProbe,
    LivenessProbe,
    Other,
}

/// A container to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) message: String,
    pub(crate) reason: KillReason,
}

/// A container to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// When the instance before it ended.
    pub(crate) after: Option<Timestamp>,
}

/// A container that waits before it is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) waiting: super::backoff::Waiting,
}

/// What has to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Stop all containers: nothing is left to do for them, or the sandbox is gone.
    pub(crate) kill_pod: bool,
    pub(crate) create_sandbox: bool,
    /// The sandbox is not the pod's first.
    pub(crate) sandbox_changed: bool,
    pub(crate) kill: Vec<Kill>,
    /// Remove all instances of all containers, to start from the beginning.
    pub(crate) reset: bool,
    pub(crate) start: Vec<Start>,
    pub(crate) wait: Vec<Wait>,
}

impl Actions {
    /// Whether there is nothing to do now.
    pub(crate) fn is_empty(&self) -> bool {
        !self.kill_pod
            && !self.create_sandbox
            && !self.reset
            && self.kill.is_empty()
            && self.start.is_empty()
    }

    /// Whether a container is killed to be started anew.
    pub(crate) fn replaces(&self) -> bool {
        self.kill.iter().any(|kill| self.start.iter().any(|start| start.name == kill.name))
    }

    /// When a waiting container may be started.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        self.wait.iter().map(|wait| wait.waiting.until).min()
    }
}

/// What the decision depends on.
pub(crate) struct Input<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) view: &'a PodView,
    pub(crate) probes: &'a Probes,
    pub(crate) backoff: &'a CrashBackoff,
    pub(crate) now: Timestamp,
    /// All containers are to be restarted.
    pub(crate) restarting_all: bool,
    /// Containers whose resize needs a restart, by name.
    pub(crate) resize_restarts: &'a [String],
}

/// The key of a container's back-off: what changes about it makes it a new one.
pub(crate) fn backoff_key(container: &Container) -> String {
    let resources = container.resources.as_ref().map(|r| format!("{:?}{:?}", r.limits, r.requests));
    let image = container.image.as_deref().unwrap_or_default();
    format!("{}/{image}/{}", container.name, resources.unwrap_or_default())
}

/// Decides.
pub(crate) fn decide(input: &Input<'_>) -> Actions {
    let Input { pod, view, .. } = *input;
    let mut actions = Actions::default();
    if input.restarting_all {
        actions.reset = !view.containers.is_empty();
        if actions.reset {
            return actions;
        }
    }
    if !view.sandbox {
        without_sandbox(input, &mut actions);
        return actions;
    }
    for container in pod.ephemeral_containers() {
        // Ephemeral containers are never restarted.
        if view.newest(&container.name).is_none() {
            start(input, &mut actions, Kind::Ephemeral, &plain(container));
        }
    }
    if init_containers(input, &mut actions) && !actions.kill_pod {
        regular_containers(input, &mut actions);
    }
    actions
}

fn without_sandbox(input: &Input<'_>, actions: &mut Actions) {
    let Input { pod, view, .. } = *input;
    actions.kill_pod = view.any_running();
    let had_containers = !view.containers.is_empty();
    if pod.restart_policy() == "Never" && had_containers {
        // It ran once and is not to run again.
        return;
    }
    let to_start: Vec<&Container> = pod
        .containers()
        .iter()
        .filter(|c| {
            let exit = view.newest(&c.name).and_then(ContainerView::exit);
            exit.is_none_or(|exit| should_restart(c, pod.restart_policy(), exit.code))
        })
        .collect();
    if to_start.is_empty() && view.any_regular(pod) {
        return;
    }
    actions.create_sandbox = true;
    actions.sandbox_changed = had_containers;
    match pod.init_containers().first() {
        Some(first) => start(input, actions, Kind::Init, first),
        None => {
            for container in to_start {
                start(input, actions, Kind::Regular, container);
            }
        }
    }
}

/// Adds a container to those that are started, or to those that wait.
fn start(input: &Input<'_>, actions: &mut Actions, kind: Kind, container: &Container) {
    // One that is killed first still runs: the instance before it tells when the last one ended.
    let mut instances = input.view.containers.iter().filter(|it| it.name == container.name);
    let finished = instances.find_map(ContainerView::exit).map(|exit| exit.finished_at);
    let waiting = finished
        .and_then(|finished| input.backoff.waiting(&backoff_key(container), finished, input.now));
    let name = container.name.clone();
    match waiting {
        Some(waiting) => actions.wait.push(Wait { kind, name, waiting }),
        None => actions.start.push(Start { kind, name, after: finished }),
    }
}

fn kill(actions: &mut Actions, it: &ContainerView, message: String, reason: KillReason) {
    let (name, id) = (it.name.clone(), it.id.clone());
    actions.kill.push(Kill { name, id, message, reason });
}

/// Decides about init containers. Answers whether the regular containers may run.
fn init_containers(input: &Input<'_>, actions: &mut Actions) -> bool {
    let Input { pod, view, .. } = *input;
    let containers = pod.init_containers();
    if containers.is_empty() {
        return true;
    }
    let mut initialized = view.any_regular(pod);
    let mut previously = initialized;
    let last = containers.len() - 1;
    let mut to_start: Vec<usize> = Vec::new();
    // The remains of the first ones may have been removed, so the last one that left a trace tells
    // how far the initialization is.
    for (index, container) in containers.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(it) = view.newest(&container.name) else {
            if previously && sidecar {
                to_start.push(index);
            }
            continue;
        };
        if previously && !sidecar {
            continue;
        }
        let mut done = || {
            if index == last {
                initialized = true;
            } else if !previously {
                to_start.push(index + 1);
            }
        };
        match it.exit() {
            None if sidecar => {
                let failed = input.probes.failed(&it.id);
                if failed == Some(Purpose::Startup) {
                    let message = format!("Init container {} failed startup probe", it.name);
                    kill(actions, it, message, KillReason::StartupProbe);
                    to_start.push(index);
                } else if input.probes.verdicts().started(&it.name) {
                    done();
                    if let Some((message, reason)) = unwanted(input, container, it) {
                        kill(actions, it, format!("Init container {message}"), reason);
                        to_start.push(index);
                    }
                }
            }
            None => {}
            Some(_) if sidecar => to_start.push(index),
            Some(exit) if exit.code != 0 || exit.reason == "OOMKilled" => {
                let code = if exit.code == 0 { 137 } else { exit.code };
                if pod.deleting() || !should_restart(container, pod.restart_policy(), code) {
                    actions.kill_pod = true;
                    actions.start.clear();
                    actions.wait.clear();
                    return false;
                }
                to_start.push(index);
            }
            Some(_) => done(),
        }
        previously = true;
    }
    if !previously {
        to_start.push(0);
    }
    to_start.sort_unstable();
    to_start.dedup();
    for index in to_start {
        let container = &containers[index];
        let waiting_before = actions.wait.len();
        start(input, actions, Kind::Init, container);
        if actions.wait.len() > waiting_before && !is_sidecar(container) {
            // Those behind it wait for it.
            break;
        }
    }
    initialized
}

/// Why a running container is not as it should be.
fn unwanted(
    input: &Input<'_>,
    container: &Container,
    it: &ContainerView,
) -> Option<(String, KillReason)> {
    let name = &it.name;
    if container.image.as_deref().is_some_and(|image| image != it.spec_image) {
        return Some((format!("{name} definition changed"), KillReason::Other));
    }
    match input.probes.failed(&it.id) {
        Some(Purpose::Liveness) => {
            return Some((format!("{name} failed liveness probe"), KillReason::LivenessProbe));
        }
        Some(Purpose::Startup) => {
            return Some((format!("{name} failed startup probe"), KillReason::StartupProbe));
        }
        _ => {}
    }
    if input.resize_restarts.contains(name) {
        return Some((format!("{name} resize requires restart"), KillReason::Other));
    }
    None
}

fn regular_containers(input: &Input<'_>, actions: &mut Actions) {
    let Input { pod, view, .. } = *input;
    let mut kept = 0;
    let mut wanted = 0;
    for container in pod.containers() {
        let running = view.newest(&container.name).filter(|it| it.running());
        let Some(it) = running else {
            if view.wants_start(pod, container) {
                wanted += 1;
                start(input, actions, Kind::Regular, container);
            }
            continue;
        };
        let Some((mut message, reason)) = unwanted(input, container, it) else {
            kept += 1;
            continue;
        };
        let policy = container.restart_policy.as_deref().unwrap_or(pod.restart_policy());
        // A changed container is started anew whatever the policy says.
        let restart = reason == KillReason::Other || policy != "Never";
        if restart {
            wanted += 1;
            if reason != KillReason::Other || message.ends_with("definition changed") {
                message.push_str(", will be restarted");
            }
            start(input, actions, Kind::Regular, container);
        } else {
            kept += 1;
        }
        kill(actions, it, format!("Container {message}"), reason);
    }
    if kept == 0 && wanted == 0 {
        // Sidecars alone do not keep a pod alive.
        actions.kill_pod = true;
        actions.start.retain(|start| start.kind != Kind::Init);
        actions.wait.retain(|wait| wait.kind != Kind::Init);
    }
}

#[cfg(test)]
mod tests;
