use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::pods::view::{ContainerState, Exit};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
    .unwrap()
}

fn running(name: &str) -> ContainerView {
    ContainerView {
        id: format!("{name}-id"),
        name: name.to_owned(),
        spec_image: "i".to_owned(),
        ..ContainerView::default()
    }
}

fn exited(name: &str, code: i32) -> ContainerView {
    let exit = Exit {
        code,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
        finished_at: Timestamp::from_second(1000).unwrap(),
    };
    ContainerView { state: ContainerState::Exited(exit), ..running(name) }
}

fn decided(pod: &Pod, sandbox: bool, containers: Vec<ContainerView>) -> Actions {
    let view = PodView { sandbox, ips: Vec::new(), containers };
    let (probes, backoff) = (Probes::default(), CrashBackoff::new(Duration::from_secs(300)));
    decide(&Input {
        pod,
        view: &view,
        probes: &probes,
        backoff: &backoff,
        now: Timestamp::from_second(2000).unwrap(),
        restarting_all: false,
        resize_restarts: &[],
    })
}

fn starts(actions: &Actions) -> Vec<&str> {
    actions.start.iter().map(|start| start.name.as_str()).collect()
}

fn c(name: &str) -> Value {
    json!({"name": name, "image": "i"})
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_first_init_container_or_all_regular_ones() {
    let plain = pod(json!({"containers": [c("a"), c("b")]}));
    let actions = decided(&plain, false, vec![]);
    assert!(actions.create_sandbox && !actions.sandbox_changed && !actions.kill_pod);
    assert_eq!(starts(&actions), ["a", "b"]);
    let with_init = pod(json!({"initContainers": [c("i"), c("j")], "containers": [c("a")]}));
    assert_eq!(starts(&decided(&with_init, false, vec![])), ["i"]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod(json!({"initContainers": [c("i"), c("j")], "containers": [c("a")]}));
    assert_eq!(starts(&decided(&pod, true, vec![])), ["i"]);
    assert!(decided(&pod, true, vec![running("i")]).is_empty());
    assert_eq!(starts(&decided(&pod, true, vec![exited("i", 0)])), ["j"]);
    assert_eq!(starts(&decided(&pod, true, vec![exited("j", 1), exited("i", 0)])), ["j"]);
    assert_eq!(starts(&decided(&pod, true, vec![exited("j", 0)])), ["a"]);
    // The regular containers run: whatever became of the init containers does not matter.
    assert!(decided(&pod, true, vec![running("a")]).is_empty());
}

#[test]
fn a_failed_init_container_ends_a_pod_that_is_not_restarted() {
    let pod = pod(json!({
        "restartPolicy": "Never", "initContainers": [c("i")], "containers": [c("a")]}));
    let actions = decided(&pod, true, vec![exited("i", 1)]);
    assert!(actions.kill_pod && actions.start.is_empty());
}

#[test]
fn sidecars_start_in_order_and_are_kept() {
    let side = |name: &str| json!({"name": name, "image": "i", "restartPolicy": "Always"});
    let pod = pod(json!({
        "restartPolicy": "Never",
        "initContainers": [side("s"), c("i"), side("t")],
        "containers": [c("a")],
    }));
    assert_eq!(starts(&decided(&pod, true, vec![])), ["s"]);
    assert_eq!(starts(&decided(&pod, true, vec![running("s")])), ["i"]);
    assert_eq!(starts(&decided(&pod, true, vec![exited("i", 0), running("s")])), ["t"]);
    // A sidecar that ended is started again while the others go on.
    let again = decided(&pod, true, vec![running("t"), exited("i", 0), exited("s", 0)]);
    assert_eq!(starts(&again), ["s", "a"]);
    let done = decided(&pod, true, vec![exited("a", 0), running("t"), running("s")]);
    assert!(done.kill_pod && done.start.is_empty());
}

#[test]
fn restart_policies() {
    let of = |policy: &str| pod(json!({"restartPolicy": policy, "containers": [c("a")]}));
    assert_eq!(starts(&decided(&of("Always"), true, vec![exited("a", 0)])), ["a"]);
    assert!(decided(&of("OnFailure"), true, vec![exited("a", 0)]).kill_pod);
    assert_eq!(starts(&decided(&of("OnFailure"), true, vec![exited("a", 1)])), ["a"]);
    assert!(decided(&of("Never"), true, vec![exited("a", 1)]).kill_pod);
}

#[test]
fn a_lost_sandbox_is_made_anew_unless_the_pod_has_run() {
    let always = pod(json!({"containers": [c("a")]}));
    let actions = decided(&always, false, vec![exited("a", 137)]);
    assert!(actions.create_sandbox && actions.sandbox_changed);
    assert_eq!(starts(&actions), ["a"]);
    let never = pod(json!({"restartPolicy": "Never", "containers": [c("a")]}));
    assert!(decided(&never, false, vec![exited("a", 137)]).is_empty());
    let on_failure = pod(json!({"restartPolicy": "OnFailure", "containers": [c("a")]}));
    assert!(decided(&on_failure, false, vec![exited("a", 0)]).is_empty());
}

#[test]
fn a_changed_image_restarts_the_container() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "new"}]}));
    let actions = decided(&pod, true, vec![running("a")]);
    assert_eq!(starts(&actions), ["a"]);
    assert_eq!(actions.kill[0].message, "Container a definition changed, will be restarted");
}

#[test]
fn a_crashed_container_waits() {
    let pod = pod(json!({"containers": [c("a")]}));
    let now = Timestamp::from_second(1001).unwrap();
    let mut backoff = CrashBackoff::new(Duration::from_secs(300));
    backoff.restarted(&backoff_key(&pod.containers()[0]), now, now);
    let view = PodView { sandbox: true, ips: Vec::new(), containers: vec![exited("a", 1)] };
    let probes = Probes::default();
    let actions = decide(&Input {
        pod: &pod,
        view: &view,
        probes: &probes,
        backoff: &backoff,
        now,
        restarting_all: false,
        resize_restarts: &[],
    });
    assert!(actions.is_empty());
    assert_eq!(actions.wake(), Some(Timestamp::from_second(1010).unwrap()));
}
