//! What survives what: agents that go, shims that are killed, starts that are interrupted.

use std::time::Duration;

use runtime::{Error, RuntimeEvent, SandboxSpec, Signal, Status};

use crate::node::{Node, exit_of, in_time, log_lines, strings, until};

crate::tests![
    a_new_agent_adopts_what_runs,
    ends_without_an_agent_are_not_lost,
    a_killed_shim_takes_its_containers_along,
    a_shim_that_was_killed_without_an_agent,
    removal_is_complete_and_idempotent,
    an_interrupted_start_leaves_nothing,
    many_at_once,
];

/// The shims of a node, by their arguments.
fn shims(node: &Node, pod_uid: &str) -> Vec<i32> {
    let own = node.config.run_dir.join("pods").join(pod_uid);
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let args: Vec<&[u8]> = args.split(|b| *b == 0).collect();
            let log = std::fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
            args.get(1) == Some(&&b"shim"[..])
                && args.get(2) == Some(&pod_uid.as_bytes())
                && log.starts_with(&own)
        })
        .collect()
}

async fn a_new_agent_adopts_what_runs(mut node: Node) {
    let spec = node.sandbox_spec();
    let uid = spec.pod_uid.clone();
    let sandbox = node.runtime.create_sandbox(spec.clone()).await.unwrap();
    let mut container = node.script("echo one; read x; echo two; exit 6").await;
    container.stdin = true;
    let log = container.log_path.clone().unwrap();
    let running = sandbox.start_container(container.clone()).await.unwrap();
    let (exit, _) = node.finish(&sandbox, node.script("exit 8").await).await;
    assert_eq!(exit.code, 8);
    let before = sandbox.containers();
    drop(sandbox);

    node.restart().await;
    let sandbox = node.runtime.sandbox(&uid).unwrap();
    assert_eq!(*sandbox.spec(), spec);
    let mut after = sandbox.containers();
    for (state, old) in after.iter_mut().zip(&before) {
        // The times of an exit come from the shim, to the nanosecond.
        assert_eq!(state, old);
    }
    assert_eq!(after.len(), 2);
    assert_eq!(*sandbox.container_spec(&running.id).unwrap(), container);
    assert!(sandbox.netns_path().unwrap().exists());
    // Everything goes on: exec with the same security, attach, logs, the end.
    let argv = strings(&["/bin/sh", "-c", "grep Seccomp: /proc/self/status; echo $HOSTNAME"]);
    let output = sandbox.exec_sync(&running.id, argv, Duration::from_secs(5)).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Seccomp:\t2\ntestpod\n");
    let mut session = sandbox.attach(&running.id, true).await.unwrap();
    use tokio::io::AsyncWriteExt;
    session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    assert_eq!(in_time(session.wait()).await.unwrap(), 6);
    let RuntimeEvent::ContainerExited { container_id, exit, .. } = node.event().await else {
        panic!("another event");
    };
    assert_eq!((container_id, exit.code), (running.id.clone(), 6));
    assert_eq!(log_lines(&log), ["one", "two"]);
    // And new ones can be started.
    let (exit, _) = node.finish(&sandbox, node.script("exit 9").await).await;
    assert_eq!(exit.code, 9);
    assert_eq!(shims(&node, &uid).len(), 1);
}

async fn ends_without_an_agent_are_not_lost(mut node: Node) {
    let sandbox = node.sandbox().await;
    let spec = node.script("trap 'exit 11' TERM; echo up; while true; do sleep 0.1; done").await;
    let log = spec.log_path.clone().unwrap();
    let state = sandbox.start_container(spec).await.unwrap();
    until(|| !log_lines(&log).is_empty()).await;
    let uid = sandbox.pod_uid().to_owned();
    // The old agent says nothing more about it; as the test cannot kill itself, its tasks go.
    let pid = linux::process::pidfd_open(state.pid).unwrap();
    drop(sandbox);
    linux::process::pidfd_signal(&pid, Signal::TERM).unwrap();
    let exit_file = node.config.run_dir.join("pods").join(&uid).join("c").join(&state.id);
    until(|| exit_file.join("exit").exists()).await;
    node.restart().await;
    let sandbox = node.runtime.sandbox(&uid).unwrap();
    let exit = exit_of(&sandbox.container(&state.id).unwrap()).cloned().unwrap();
    assert_eq!((exit.code, exit.message.as_str()), (11, ""));
    sandbox.remove().await.unwrap();
}

async fn a_killed_shim_takes_its_containers_along(mut node: Node) {
    let sandbox = node.sandbox().await;
    let uid = sandbox.pod_uid().to_owned();
    let (ended, _) = node.finish(&sandbox, node.script("exit 2").await).await;
    assert_eq!(ended.code, 2);
    assert!(matches!(node.event().await, RuntimeEvent::ContainerExited { .. }));
    let state = sandbox.start_container(node.script("sleep 1000").await).await.unwrap();
    let [shim] = shims(&node, &uid)[..] else { panic!("one shim") };
    linux::process::kill(shim, Signal::KILL).unwrap();
    let RuntimeEvent::ContainerExited { container_id, exit, .. } = node.event().await else {
        panic!("another event");
    };
    assert_eq!((container_id, exit.code), (state.id.clone(), 137));
    assert_eq!(exit.message, "the container's shim ended");
    let lost = node.event().await;
    assert_eq!(lost, RuntimeEvent::ShimLost { pod_uid: uid.clone() });
    assert!(!linux::process::exists(state.pid), "killed");
    // The sandbox is good for another container.
    let (exit, _) = node.finish(&sandbox, node.script("exit 5").await).await;
    assert_eq!(exit.code, 5);
    sandbox.remove().await.unwrap();
    assert!(shims(&node, &uid).is_empty());
}

async fn a_shim_that_was_killed_without_an_agent(mut node: Node) {
    let spec = SandboxSpec { share_process_namespace: true, ..node.sandbox_spec() };
    let uid = spec.pod_uid.clone();
    let sandbox = node.runtime.create_sandbox(spec).await.unwrap();
    let running = sandbox.start_container(node.script("sleep 1000").await).await.unwrap();
    let [shim] = shims(&node, &uid)[..] else { panic!("one shim") };
    linux::process::kill(shim, Signal::KILL).unwrap();
    // The agent of this test notices as well; what counts is what the next one finds.
    until(|| !(linux::process::exists(running.pid))).await;
    node.restart().await;
    assert_eq!(node.event().await, RuntimeEvent::ShimLost { pod_uid: uid.clone() });
    let sandbox = node.runtime.sandbox(&uid).unwrap();
    let exit = exit_of(&sandbox.container(&running.id).unwrap()).cloned().unwrap();
    assert_eq!((exit.code, exit.message.as_str()), (137, "the container's shim ended"));
    sandbox.remove().await.unwrap();
}

async fn removal_is_complete_and_idempotent(node: Node) {
    let sandbox = node.sandbox().await;
    let uid = sandbox.pod_uid().to_owned();
    let kept = sandbox.start_container(node.script("sleep 1000").await).await.unwrap();
    let cgroup = format!("{}/{}", sandbox.spec().cgroup_parent, kept.id);
    assert!(node.runtime.cgroups().exists(&cgroup));
    sandbox.remove().await.unwrap();
    sandbox.remove().await.unwrap();
    assert!(node.runtime.sandbox(&uid).is_none() && sandbox.containers().is_empty());
    assert!(!node.runtime.cgroups().exists(&sandbox.spec().cgroup_parent));
    assert!(!linux::process::exists(kept.pid));
    assert!(!node.config.run_dir.join("pods").join(&uid).exists());
    assert!(shims(&node, &uid).is_empty());
    let error = sandbox.exec_sync(&kept.id, strings(&["true"]), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    // The same pod may come again.
    let spec = SandboxSpec { pod_uid: uid, ..node.sandbox_spec() };
    let again = node.runtime.create_sandbox(spec.clone()).await.unwrap();
    let same = node.runtime.create_sandbox(spec).await.unwrap();
    assert_eq!(again.pod_uid(), same.pod_uid());
    assert_eq!(node.runtime.sandboxes().len(), 1);
    let (exit, _) = node.finish(&again, node.script("exit 3").await).await;
    assert_eq!(exit.code, 3);
}

async fn an_interrupted_start_leaves_nothing(mut node: Node) {
    let sandbox = node.sandbox().await;
    let state = sandbox.start_container(node.script("sleep 1000").await).await.unwrap();
    // As if the agent had died before it wrote the container down.
    let dir = node.config.run_dir.join("pods").join(sandbox.pod_uid()).join("c").join(&state.id);
    std::fs::remove_file(dir.join("container.json")).unwrap();
    // And before it had written down another pod.
    let half = node.config.run_dir.join("pods/half-made/ns");
    std::fs::create_dir_all(&half).unwrap();
    node.restart().await;
    let sandbox = node.runtime.sandbox(sandbox.pod_uid()).unwrap();
    assert!(sandbox.containers().is_empty());
    assert!(!dir.exists() && !linux::process::exists(state.pid));
    assert!(!half.exists() && node.runtime.sandboxes().len() == 1);
    // Its id is free again.
    let mut spec = node.script("exit 4").await;
    spec.id = state.id;
    assert_eq!(node.finish(&sandbox, spec).await.0.code, 4);
}

async fn many_at_once(node: Node) {
    node.image().await;
    let pods = (0..10).map(|_| async {
        let sandbox = node.sandbox().await;
        let (a, b) = (node.script("exit 1").await, node.script("echo x; sleep 1000").await);
        let (a, b) =
            futures::future::join(sandbox.start_container(a), sandbox.start_container(b)).await;
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(in_time(sandbox.wait(&a.id)).await.unwrap().code, 1);
        assert_eq!(sandbox.container(&b.id).unwrap().status, Status::Running);
        sandbox.remove().await.unwrap();
    });
    futures::future::join_all(pods).await;
    assert!(node.runtime.sandboxes().is_empty());
}
