use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use serde_json::{Value, json};

use super::{conditions, containers::Reasons, finish, generate};
use crate::{
    pods::view::{ContainerState, ContainerView, Exit, PodView},
    probes::Verdicts,
};

fn pod(spec: Value, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3},
        "spec": spec,
        "status": status,
    }))
    .unwrap()
}

fn running(name: &str, attempt: u32) -> ContainerView {
    ContainerView {
        id: format!("{name}{attempt}"),
        name: name.to_owned(),
        attempt,
        image: "docker.io/library/i:1".to_owned(),
        image_id: "docker.io/library/i@sha256:1".to_owned(),
        started_at: Timestamp::from_second(1000).unwrap(),
        ..ContainerView::default()
    }
}

fn exited(name: &str, attempt: u32, code: i32) -> ContainerView {
    let exit = Exit {
        code,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
        finished_at: Timestamp::from_second(1001).unwrap(),
    };
    ContainerView { state: ContainerState::Exited(exit), ..running(name, attempt) }
}

struct Case {
    pod: Pod,
    old: PodStatus,
    reasons: Reasons,
    terminal: bool,
}

impl Case {
    fn new(spec: Value) -> Self {
        let pod = pod(spec, json!({}));
        Self { pod, old: PodStatus::default(), reasons: Reasons::new(), terminal: false }
    }

    fn status(&self, sandbox: bool, containers: Vec<ContainerView>) -> PodStatus {
        let ips: Vec<IpAddr> = sandbox.then(|| "10.0.0.2".parse().unwrap()).into_iter().collect();
        generate::status(&generate::Input {
            pod: &self.pod,
            view: &PodView { sandbox, ips, containers },
            old: &self.old,
            reasons: &self.reasons,
            probes: &Verdicts::default(),
            host_ips: &["192.0.2.1".parse().unwrap()],
            terminal: self.terminal,
            evicted: None,
            extra: &[],
            pod_resources: None,
        })
    }
}

fn value(status: &ContainerStatus) -> Value {
    serde_json::to_value(status).unwrap()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    conditions::find(status.conditions.as_ref().unwrap(), kind).unwrap()
}

fn first(status: &PodStatus) -> Value {
    value(&status.container_statuses.as_ref().unwrap()[0])
}

fn c(name: &str) -> Value {
    json!({"name": name, "image": "i"})
}

#[test]
fn a_pod_on_its_way() {
    let case = Case::new(json!({"containers": [c("b"), c("a")]}));
    let status = case.status(false, vec![]);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.pod_ip, None);
    let names: Vec<_> = status.container_statuses.iter().flatten().map(|s| &s.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(first(&status)["state"], json!({"waiting": {"reason": "ContainerCreating"}}));
    assert_eq!(
        condition(&status, "ContainersReady").message.as_deref(),
        Some("containers with unready status: [b a]")
    );
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(condition(&status, "Initialized").status, "True");
    let sandbox = condition(&status, "PodReadyToStartContainers");
    assert_eq!(sandbox.message.as_deref(), Some("no pod sandbox exists"));
}

#[test]
fn a_pod_that_runs() {
    let case = Case::new(json!({"containers": [c("a")]}));
    let status = case.status(true, vec![running("a", 0)]);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.2"));
    assert_eq!(
        first(&status),
        json!({
            "name": "a",
            "image": "docker.io/library/i:1",
            "imageID": "docker.io/library/i@sha256:1",
            "containerID": "knarr://a0",
            "state": {"running": {"startedAt": "1970-01-01T00:16:40Z"}},
            "lastState": {},
            "ready": true,
            "started": true,
            "restartCount": 0,
            "resources": {},
        })
    );
    assert_eq!(condition(&status, "Ready").status, "True");
}

#[test]
fn a_container_that_crashes() {
    let mut case = Case::new(json!({"containers": [c("a")]}));
    let waits = ("CrashLoopBackOff".to_owned(), "back-off 10s restarting".to_owned());
    case.reasons.insert("a".to_owned(), waits);
    let status = case.status(true, vec![exited("a", 1, 1), exited("a", 0, 2)]);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let shown = first(&status);
    assert_eq!(shown["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(shown["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(shown["restartCount"], 1);
    assert_eq!(condition(&status, "Ready").status, "False");

    let restarted = case.status(true, vec![running("a", 2), exited("a", 1, 1)]);
    let shown = first(&restarted);
    assert!(shown["state"]["running"].is_object());
    assert_eq!(shown["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(shown["restartCount"], 2);
}

#[test]
fn pods_that_end() {
    let never = Case::new(json!({"restartPolicy": "Never", "containers": [c("a"), c("b")]}));
    let phase = |containers| never.status(true, containers).phase.unwrap();
    assert_eq!(phase(vec![exited("a", 0, 0), running("b", 0)]), "Running");
    assert_eq!(phase(vec![exited("a", 0, 0), exited("b", 0, 0)]), "Succeeded");
    assert_eq!(phase(vec![exited("a", 0, 0), exited("b", 0, 1)]), "Failed");
    let done = never.status(true, vec![exited("a", 0, 0), exited("b", 0, 0)]);
    assert_eq!(condition(&done, "Ready").reason.as_deref(), Some("PodCompleted"));
    assert_eq!(condition(&done, "Initialized").reason.as_deref(), Some("PodCompleted"));
    let mut always = Case::new(json!({"containers": [c("a")]}));
    assert_eq!(always.status(true, vec![exited("a", 0, 0)]).phase.unwrap(), "Running");
    always.terminal = true;
    assert_eq!(always.status(true, vec![exited("a", 0, 0)]).phase.unwrap(), "Succeeded");
}

#[test]
fn init_containers() {
    let spec = json!({
        "restartPolicy": "Never", "initContainers": [c("i"), c("j")], "containers": [c("a")]});
    let case = Case::new(spec);
    let status = case.status(true, vec![exited("i", 0, 0), running("j", 0)]);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(first(&status)["state"]["waiting"]["reason"], "PodInitializing");
    let init = status.init_container_statuses.clone().unwrap();
    assert!(init[0].ready && !init[1].ready);
    assert_eq!(
        condition(&status, "Initialized").message.as_deref(),
        Some("containers with incomplete status: [j]")
    );
    let failed = case.status(true, vec![exited("j", 0, 1), exited("i", 0, 0)]);
    assert_eq!(failed.phase.as_deref(), Some("Failed"));
    let done = case.status(true, vec![running("a", 0)]);
    assert_eq!(done.phase.as_deref(), Some("Running"));
    let init = done.init_container_statuses.unwrap();
    assert_eq!(value(&init[0])["state"]["terminated"]["reason"], "Completed");
}

#[test]
fn a_container_that_vanished_has_ended() {
    let mut case = Case::new(json!({"containers": [c("a")]}));
    case.old = case.status(true, vec![running("a", 0)]);
    let status = case.status(false, vec![]);
    let shown = first(&status);
    assert_eq!(shown["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
    assert_eq!(shown["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(shown["restartCount"], 1);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn readiness_gates() {
    let spec = json!({"containers": [c("a")], "readinessGates": [{"conditionType": "x/y"}]});
    let mut case = Case::new(spec.clone());
    let status = case.status(true, vec![running("a", 0)]);
    assert_eq!(
        condition(&status, "Ready").message.as_deref(),
        Some("corresponding condition of pod readiness gate \"x/y\" does not exist.")
    );
    case.pod = pod(spec, json!({"conditions": [{"type": "x/y", "status": "True"}]}));
    let status = case.status(true, vec![running("a", 0)]);
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(condition(&status, "x/y").status, "True");
}

#[test]
fn a_final_phase_waits_for_the_last_container() {
    let mut case = Case::new(json!({"containers": [c("a")]}));
    case.pod = pod(json!({"containers": [c("a")]}), json!({"phase": "Running"}));
    let mut computed = case.status(true, vec![running("a", 0)]);
    computed.phase = Some("Failed".to_owned());
    computed.reason = Some("Evicted".to_owned());
    let held = finish::reportable(&case.pod, &computed, true);
    assert_eq!((held.phase.as_deref(), held.reason), (Some("Running"), None));
    let told = finish::reportable(&case.pod, &computed, false);
    assert_eq!(told.phase.as_deref(), Some("Failed"));
    assert_eq!(condition(&told, "Ready").reason.as_deref(), Some("PodFailed"));
}

#[test]
fn nothing_is_left_open_at_the_end() {
    let mut case = Case::new(json!({"containers": [c("a")]}));
    case.terminal = true;
    let mut status = case.status(false, vec![]);
    finish::finish(&case.pod, &mut status);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let shown = first(&status);
    assert_eq!(shown["state"]["terminated"]["reason"], "ContainerStatusUnknown");

    let spec = json!({"initContainers": [c("i")], "containers": [c("a")]});
    let mut case = Case::new(spec);
    case.terminal = true;
    let mut status = case.status(true, vec![exited("i", 0, 1)]);
    finish::finish(&case.pod, &mut status);
    // The regular container had no chance to run, so it did not fail.
    assert_eq!(first(&status)["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}
