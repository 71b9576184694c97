//! The whole status of a pod, computed from what runs and what was reported before.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostIP, Pod, PodCondition, PodIP, PodStatus};

use super::{
    conditions::{self, condition, keep_transition_times},
    containers::{self, Reasons},
    phase,
};
use crate::{
    pods::view::PodView,
    podspec::{Kind, PodExt, is_sidecar, is_terminal, may_restart_all, now},
    probes::Verdicts,
    resources::{pod_requests, qos, to_api},
};

const NO_SANDBOX: &str = "no pod sandbox exists";
const SANDBOX_GONE: &str = "pod sandbox is not ready";

/// Everything that a pod's status depends on.
pub(crate) struct Input<'a> {
    /// The pod as the API server has it, its status included.
    pub(crate) pod: &'a Pod,
    pub(crate) view: &'a PodView,
    /// What was reported last, or what the API server has.
    pub(crate) old: &'a PodStatus,
    pub(crate) reasons: &'a Reasons,
    pub(crate) probes: &'a Verdicts,
    pub(crate) host_ips: &'a [IpAddr],
    /// Nothing will be started any more.
    pub(crate) terminal: bool,
    /// The kubelet ends the pod: reason and message of the failure.
    pub(crate) evicted: Option<(&'a str, &'a str)>,
    /// Conditions of a resize, and of a disruption.
    pub(crate) extra: &'a [PodCondition],
    /// The pod's own resources that are in force.
    pub(crate) pod_resources: Option<k8s_openapi::api::core::v1::ResourceRequirements>,
}

/// Computes the status.
pub(crate) fn status(input: &Input<'_>) -> PodStatus {
    let Input { pod, view, old, .. } = *input;
    let api = pod.status.as_ref();
    let restarting_all = restarting_all(pod, view, old);
    let lists = containers::Input { pod, view, reasons: input.reasons, restarting_all };
    let of = |kind, before: Option<&Vec<_>>| {
        containers::statuses(&lists, kind, before.map(Vec::as_slice).unwrap_or_default())
    };
    let mut regular = of(Kind::Regular, old.container_statuses.as_ref());
    let mut init = of(Kind::Init, old.init_container_statuses.as_ref());
    let ephemeral = of(Kind::Ephemeral, old.ephemeral_container_statuses.as_ref());
    // Upstream computes the phase before the probes have their say, from what was reported before.
    apply_probes(pod, input.probes, &mut regular, &mut init);

    let mut status = PodStatus {
        qos_class: Some(qos(pod).name().to_owned()),
        observed_generation: Some(pod.generation()).filter(|g| *g > 0).max(old.observed_generation),
        start_time: old.start_time.clone().or_else(|| Some(now())),
        nominated_node_name: api.and_then(|s| s.nominated_node_name.clone()),
        allocated_resources: Some(to_api(&pod_requests(pod))).filter(|list| !list.is_empty()),
        resources: input.pod_resources.clone(),
        ..PodStatus::default()
    };
    addresses(input, &mut status);

    let computed = phase::phase(pod, &init, &regular, input.terminal, view.any_regular(pod));
    let final_before = [old.phase.as_deref(), api.and_then(|s| s.phase.as_deref())]
        .into_iter()
        .flatten()
        .find(|phase| is_terminal(phase));
    let phase = match final_before {
        Some(phase) => phase,
        None => computed,
    };
    status.phase = Some(phase.to_owned());
    if old.phase.as_deref() == Some(phase) {
        status.reason = old.reason.clone().or_else(|| api.and_then(|s| s.reason.clone()));
        status.message = old.message.clone().or_else(|| api.and_then(|s| s.message.clone()));
    }
    if let Some((reason, message)) = input.evicted {
        status.phase = Some("Failed".to_owned());
        status.reason = Some(reason.to_owned());
        status.message = Some(message.to_owned());
    }
    let phase = status.phase.as_deref().unwrap_or_default();

    let kept = api.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let mut conditions: Vec<PodCondition> =
        kept.iter().filter(|c| !conditions::owned(&c.type_)).cloned().collect();
    for extra in input.extra {
        conditions.retain(|c| c.type_ != extra.type_);
        conditions.push(extra.clone());
    }
    let all: Vec<_> = init.iter().chain(&regular).cloned().collect();
    conditions.push(if view.sandbox {
        condition(pod, "PodReadyToStartContainers", true, "", "")
    } else {
        let message = if view.containers.is_empty() { NO_SANDBOX } else { SANDBOX_GONE };
        condition(pod, "PodReadyToStartContainers", false, "PodSandboxNotReady", message)
    });
    conditions.push(conditions::initialized(pod, old, &all, phase));
    let containers_ready = conditions::containers_ready(pod, &all, phase);
    let ready = conditions::ready(pod, &containers_ready, &conditions);
    conditions.push(ready);
    conditions.push(containers_ready);
    conditions.push(condition(pod, "PodScheduled", true, "", ""));
    if may_restart_all(pod) {
        conditions.push(restarting_condition(pod, phase, restarting_all, view));
    }
    keep_transition_times(&mut conditions, old.conditions.as_deref().unwrap_or_default());
    status.conditions = Some(conditions);

    let some = |list: Vec<_>| (!list.is_empty()).then_some(list);
    status.container_statuses = some(regular);
    status.init_container_statuses = some(init);
    status.ephemeral_container_statuses = some(ephemeral);
    status
}

/// Whether all containers are being restarted: a rule asked for it and they are not gone yet, or
/// that was reported already.
pub(crate) fn restarting_all(pod: &Pod, view: &PodView, old: &PodStatus) -> bool {
    if !may_restart_all(pod) {
        return false;
    }
    let was = old.conditions.as_deref().unwrap_or_default();
    conditions::find(was, "AllContainersRestarting").is_some_and(|c| c.status == "True")
        || view.wants_restart_of_all(pod)
}

fn restarting_condition(pod: &Pod, phase: &str, restarting: bool, view: &PodView) -> PodCondition {
    let kind = "AllContainersRestarting";
    let gone = pod
        .containers()
        .iter()
        .chain(pod.init_containers())
        .all(|c| view.newest(&c.name).is_none());
    match phase {
        "Succeeded" => condition(pod, kind, false, "PodCompleted", ""),
        "Failed" => condition(pod, kind, false, "PodFailed", ""),
        _ if restarting && !gone => condition(
            pod,
            kind,
            true,
            "RestartAllContainersStarted",
            "container exited with restart policy rule",
        ),
        _ => condition(pod, kind, false, "", ""),
    }
}

fn addresses(input: &Input<'_>, status: &mut PodStatus) {
    let texts = |ips: &[IpAddr]| -> Vec<String> { ips.iter().map(ToString::to_string).collect() };
    let hosts = texts(input.host_ips);
    status.host_ip = hosts.first().cloned();
    status.host_ips =
        (!hosts.is_empty()).then(|| hosts.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    let ips = if input.pod.host_network() {
        hosts
    } else if input.view.ips.is_empty() && input.terminal {
        // The addresses of a pod that has ended stay in its status.
        input.old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect()
    } else {
        texts(&input.view.ips)
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
}

fn apply_probes(
    pod: &Pod,
    probes: &Verdicts,
    regular: &mut [k8s_openapi::api::core::v1::ContainerStatus],
    init: &mut [k8s_openapi::api::core::v1::ContainerStatus],
) {
    for status in regular.iter_mut() {
        let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
        let started = running && probes.started(&status.name);
        status.started = Some(started);
        status.ready = started && probes.ready(&status.name);
    }
    for (status, container) in init.iter_mut().zip(pod.init_containers()) {
        let state = status.state.clone().unwrap_or_default();
        let started = state.running.is_some() && probes.started(&status.name);
        status.started = Some(started);
        status.ready = if is_sidecar(container) {
            started && probes.ready(&status.name)
        } else {
            state.terminated.is_some_and(|ended| ended.exit_code == 0)
        };
    }
}
