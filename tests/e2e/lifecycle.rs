//! A pod's life: the order in which containers come and go, and what becomes of those that fail.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::support::{Shared, Space};

static SHARED: Shared = Shared::with_node();

/// A folder of the node that pods write to, to be read when they are gone.
fn folder(space: &Space) -> PathBuf {
    let folder = space.cluster.folder().join(space.name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn lines(folder: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("log")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn one_container(name: &str, more: &str, line: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  {more}
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, '{line}']
"#
    )
}

#[test]
fn init_containers_run_in_order_and_sidecars_outlive_the_others() {
    let space = SHARED.space("order");
    let folder = folder(&space);
    let container = |name: &str, more: &str, line: &str| {
        format!(
            "- {{name: {name}, image: 'knarr.demo/backend:v1', {more} \
             command: [sh, -c, '{line}'], volumeMounts: [{{name: log, mountPath: /log}}]}}"
        )
    };
    // Sidecars stop in the reverse of the order in which they started, and after the others.
    let stays = |name: &str| {
        let line = format!(
            "trap \"echo {name} ends >> /log/log; exit\" TERM; echo {name} >> /log/log; \
             touch /tmp/up; sleep 1d & wait"
        );
        container(
            name,
            "restartPolicy: Always, startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1},",
            &line,
        )
    };
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  \
         initContainers:\n  {}\n  {}\n  {}\n  {}\n  containers:\n  {}\n  \
         volumes: [{{name: log, hostPath: {{path: {}}}}}]\n",
        container("one", "", "sleep 0.2; echo one >> /log/log"),
        stays("car"),
        container("two", "", "echo two >> /log/log"),
        stays("truck"),
        container("main", "", "echo main >> /log/log; sleep 0.2; echo main ends >> /log/log"),
        folder.display(),
    );
    space.apply(&manifest);
    space.wait("jsonpath={.status.phase}=Succeeded", &["pod/p"]);
    let expected = ["one", "car", "two", "truck", "main", "main ends", "truck ends", "car ends"];
    assert_eq!(lines(&folder), expected);
}

#[test]
fn an_init_container_that_fails_keeps_the_others_from_starting() {
    let space = SHARED.space("init-fails");
    let init = r#"restartPolicy: Never
  initContainers: [{name: i, image: "knarr.demo/backend:v1", command: ["false"]}]"#;
    space.apply(&one_container("p", init, "true"));
    let pod = space.until("pod/p", "/status/phase", |phase| *phase == "Failed");
    let status = &pod["status"];
    assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 1);
    let main = &status["containerStatuses"][0]["state"];
    assert_eq!(main["waiting"]["reason"], "PodInitializing", "{main}");
}

#[test]
fn hooks_run_after_the_start_and_before_the_stop() {
    let space = SHARED.space("hooks");
    let folder = folder(&space);
    let manifest = one_container(
        "p",
        "terminationGracePeriodSeconds: 20",
        "trap \"echo terminated >> /log/log; exit\" TERM; sleep 1d & wait",
    );
    let more = format!(
        r"    lifecycle:
      postStart: {{exec: {{command: [sh, -c, 'echo started >> /log/log']}}}}
      preStop: {{exec: {{command: [sh, -c, 'echo stopping >> /log/log']}}}}
    volumeMounts: [{{name: log, mountPath: /log}}]
  volumes: [{{name: log, hostPath: {{path: {}}}}}]
",
        folder.display()
    );
    space.apply(&(manifest + &more));
    space.wait("condition=Ready", &["pod/p"]);
    assert_eq!(lines(&folder), ["started"]);
    space.kubectl(&["delete", "pod", "p"]).stdout();
    assert_eq!(lines(&folder), ["started", "stopping", "terminated"]);
}

#[test]
fn a_container_deaf_to_sigterm_is_killed_after_its_grace_period() {
    let space = SHARED.space("grace");
    let deaf = "trap : TERM; while :; do sleep 1d & wait; done";
    space.apply(&one_container("p", "terminationGracePeriodSeconds: 2", deaf));
    space.wait("condition=Ready", &["pod/p"]);
    // The finalizer keeps the pod for us to see how its container ended.
    let finalizers = r#"{"metadata":{"finalizers":["example.com/look"]}}"#;
    space.kubectl(&["patch", "pod", "p", "--type=merge", "-p", finalizers]).stdout();
    space.kubectl(&["delete", "pod", "p", "--wait=false"]).stdout();
    let deleted = space.get(&["pod", "p"]);
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 2);
    let ended = "/status/containerStatuses/0/state/terminated/exitCode";
    let pod = space.until("pod/p", ended, |code| *code == 137);
    let time =
        |value: &Value| value.as_str().unwrap().parse::<k8s_openapi::jiff::Timestamp>().unwrap();
    // The timestamp is when the grace period ends; times in the API are whole seconds.
    let allowed = time(&pod["metadata"]["deletionTimestamp"]);
    let state = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    let stopped = time(&state["finishedAt"]);
    let late = stopped.as_second() - allowed.as_second();
    assert!((-1..=5).contains(&late), "it ended {late} s after its grace period");
    let finalizers = r#"{"metadata":{"finalizers":null}}"#;
    space.kubectl(&["patch", "pod", "p", "--type=merge", "-p", finalizers]).stdout();
}

#[test]
fn a_container_that_keeps_failing_is_restarted_ever_later() {
    let space = SHARED.space("crash-loop");
    space.apply(&one_container("p", "restartPolicy: Always", "echo no; exit 1"));
    let waiting = "/status/containerStatuses/0/state/waiting/reason";
    let pod = space.until("pod/p", waiting, |reason| *reason == "CrashLoopBackOff");
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(status["restartCount"], 1, "the first restart does not wait");
    let message = status["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=p"), "{message}");
    let shown = space.kubectl(&["get", "pods"]).stdout();
    assert!(shown.contains("CrashLoopBackOff"), "{shown}");
}

#[test]
fn a_container_over_its_memory_limit_is_killed_and_says_so() {
    let space = SHARED.space("memory");
    let greedy = one_container("p", "restartPolicy: Never", "exec tail /dev/zero");
    space.apply(&(greedy + "    resources: {limits: {memory: 16Mi}}\n"));
    let pod = space.until("pod/p", "/status/phase", |phase| *phase == "Failed");
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"OOMKilled".into(), &137.into()));
}

#[test]
fn a_restart_policy_decides_whether_an_exit_is_the_end() {
    let space = SHARED.space("policies");
    // It fails once; whether it has is on a volume, which outlives the container.
    let line = "test -e /state/failed || { touch /state/failed; exit 1; }";
    let volume = "    volumeMounts: [{name: state, mountPath: /state}]\n  volumes: [{name: state, emptyDir: {}}]\n";
    for policy in ["OnFailure", "Never"] {
        let pod = one_container(&policy.to_lowercase(), &format!("restartPolicy: {policy}"), line);
        space.apply(&(pod + volume));
    }
    let pod = space.until("pod/onfailure", "/status/phase", |phase| *phase == "Succeeded");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
    let pod = space.until("pod/never", "/status/phase", |phase| *phase == "Failed");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let space = SHARED.space("deadline");
    let more = "activeDeadlineSeconds: 1";
    space.apply(&one_container("p", more, "trap exit TERM; sleep 1d & wait"));
    let pod = space.until("pod/p", "/status/phase", |phase| *phase == "Failed");
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
}

#[test]
fn a_process_has_the_user_the_rights_and_the_root_that_its_pod_says() {
    let space = SHARED.space("security");
    let more = "securityContext: {runAsUser: 1234, runAsGroup: 5678, fsGroup: 4321, \
                supplementalGroups: [99], seccompProfile: {type: RuntimeDefault}}";
    let line = "trap exit TERM; sleep 1d & wait";
    let pod = one_container("p", more, line)
        + r"    securityContext:
      {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";
    space.apply(&pod);
    space.wait("condition=Ready", &["pod/p"]);
    let said = space.sh("p", "id -u; id -g; id -G").stdout();
    let (user, groups) = said.split_once("\n5678\n").expect("the group");
    assert_eq!(user, "1234");
    let groups: std::collections::BTreeSet<&str> = groups.split_whitespace().collect();
    assert_eq!(groups, ["99", "4321", "5678"].into());
    let status = space.sh("p", "cat /proc/1/status").stdout();
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "no {line:?} in {status}");
    }
    let refused = space.sh("p", "touch /here").refused();
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert_eq!(space.sh("p", "touch /data/file && stat -c %g /data/file").stdout(), "4321\n");
}

#[test]
fn a_pod_whose_image_changes_restarts_its_container_and_stays_ready() {
    let space = SHARED.space("replaced");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: c, image: "knarr.demo/web:v1", command: [sh, -c, 'trap exit TERM; sleep 1d & wait']}
"#,
    );
    space.wait("condition=Ready", &["pod/p"]);
    let shown = "jsonpath={.status.containerStatuses[0].restartCount} \
                 {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}";
    let mut watch = space.kubectl_in_background(&["get", "pod", "p", "--watch", "-o", shown]);
    watch.line_with("0 True");
    space.kubectl(&["set", "image", "pod/p", "c=knarr.demo/web:v2"]).stdout();
    let seen = watch.lines_until("1 True");
    assert!(seen.iter().all(|line| line.ends_with("True")), "{seen:?}");
}
